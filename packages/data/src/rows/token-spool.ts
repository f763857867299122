import { tmpdir } from 'node:os'
import type { ChunkColumns, ProcessedChunk } from '../records/processed-chunk.js'
import type { TokenSource, TokenWords } from './example-rows.js'
import { TemporaryFile } from './temporary-file.js'

/** A processed chunk, and where its tokens are to be read from. */
export interface StoredChunk {
  columns: ChunkColumns
  source: TokenSource
}

const DEFAULT_BYTES = 16 << 20

/** Tokens that no cache keeps: in memory up to a bound, beyond it in a temporary file. */
export class TokenSpool {
  private readonly maxBytes: number
  private readonly folder: string
  private file: TemporaryFile | undefined
  private kept = 0
  private at = 0

  constructor(maxBytes = DEFAULT_BYTES, folder = tmpdir()) {
    this.maxBytes = maxBytes
    this.folder = folder
  }

  keep({ tokens, ...columns }: ProcessedChunk): StoredChunk {
    if (this.kept + tokens.byteLength <= this.maxBytes) {
      this.kept += tokens.byteLength
      return { columns, source: { read: (offset, length) => tokens.subarray(offset, offset + length) } }
    }
    this.file ??= new TemporaryFile(this.folder)
    this.file.write(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), this.at)
    const source = tokensIn(this.file, this.at, tokens.BYTES_PER_ELEMENT)
    this.at += tokens.byteLength
    return { columns, source }
  }

  /** Rows of the file can no longer be read. */
  close(): void {
    this.file?.close()
    this.file = undefined
  }
}

function tokensIn(file: TemporaryFile, start: number, wordBytes: number): TokenSource {
  return {
    read: (offset, length): TokenWords => {
      const bytes = new Uint8Array(length * wordBytes)
      file.read(bytes, start + offset * wordBytes)
      return wordBytes === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer)
    },
  }
}
