import { crc32 } from 'node:zlib'
import type { ChunkCounts, ProcessedChunk } from '../records/processed-chunk.js'

/** "MSC1", little-endian. */
const MAGIC = 0x3143534d
export const CHUNK_HEADER_BYTES = 16

/** Counts and column sizes, as JSON before the columns. */
interface ChunkHead {
  counts: ChunkCounts
  conversations: number
  rows: number
  tokens: number
  wordBytes: 2 | 4
  hashBytes: number
  signatureBytes: number
}

/** A chunk as bytes: magic, length of the head, CRC-32 of what follows, length of the columns; head; columns; tokens last. */
export function encodeChunk(chunk: ProcessedChunk): Buffer {
  const { hashes, signatures, splitPoints, rowCounts, rowLengths, rowTrained, tokens, ...counts } = chunk
  const head: ChunkHead = {
    counts,
    conversations: rowCounts.length,
    rows: rowLengths.length,
    tokens: tokens.length,
    wordBytes: tokens.BYTES_PER_ELEMENT === 2 ? 2 : 4,
    hashBytes: hashes.length,
    signatureBytes: signatures.length,
  }
  const json = Buffer.from(JSON.stringify(head))
  const columns = [hashes, signatures, splitPoints, rowCounts, rowLengths, rowTrained, tokens].map(bytesOf)
  const body = Buffer.concat([json, ...columns])
  const header = Buffer.alloc(CHUNK_HEADER_BYTES)
  header.writeUInt32LE(MAGIC, 0)
  header.writeUInt32LE(json.length, 4)
  header.writeUInt32LE(crc32(body), 8)
  header.writeUInt32LE(body.length, 12)
  return Buffer.concat([header, body])
}

/** The number of bytes after the header, or null where these are not a chunk's first bytes. */
export function bodyLengthOf(header: Buffer): number | null {
  return header.length === CHUNK_HEADER_BYTES && header.readUInt32LE(0) === MAGIC ? header.readUInt32LE(12) : null
}

/** @returns null where the bytes are not what was written. */
export function decodeChunk(header: Buffer, body: Buffer): ProcessedChunk | null {
  if (body.length !== bodyLengthOf(header) || crc32(body) !== header.readUInt32LE(8)) return null
  const jsonLength = header.readUInt32LE(4)
  const head = JSON.parse(body.subarray(0, jsonLength).toString()) as ChunkHead
  let at = jsonLength
  // Copied into memory of their own, which is aligned and does not keep the whole body alive.
  const take = (bytes: number): ArrayBuffer => {
    const copy = new Uint8Array(body.subarray(at, at + bytes))
    at += bytes
    return copy.buffer
  }
  return {
    ...head.counts,
    hashes: new Uint8Array(take(head.hashBytes)),
    signatures: new Uint8Array(take(head.signatureBytes)),
    splitPoints: new Float64Array(take(head.conversations * 8)),
    rowCounts: new Uint32Array(take(head.conversations * 4)),
    rowLengths: new Uint32Array(take(head.rows * 4)),
    rowTrained: new Uint32Array(take(head.rows * 4)),
    tokens: head.wordBytes === 2 ? new Uint16Array(take(head.tokens * 2)) : new Uint32Array(take(head.tokens * 4)),
  }
}

function bytesOf(column: ArrayBufferView): Uint8Array {
  return new Uint8Array(column.buffer, column.byteOffset, column.byteLength)
}
