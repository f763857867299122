import type { MessagePort } from 'node:worker_threads'
import { DataError } from '../errors.js'
import type { DataErrorCode } from '../errors.js'
import type { ProcessedChunk } from '../records/processed-chunk.js'
import { RecordProcessor } from '../records/record-processor.js'
import type { ProcessSettings, RecordTask } from '../records/record-settings.js'
import { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import type { TokenizerOrigin } from '../tokens/chat-tokenizer.js'
import { unpackRecords } from './packed-records.js'
import type { PackedRecords } from './packed-records.js'

/** What a worker is started with. */
export interface WorkerSetup {
  tokenizer: TokenizerOrigin
  settings: ProcessSettings
}

export interface WorkerTask extends Omit<RecordTask, 'records'> {
  id: number
  records: PackedRecords
}

/** Errors cross as their code and message: both are free of text, unlike what an unknown error may say. */
export type WorkerAnswer = { id: number } & ({ chunk: ProcessedChunk } | { code: DataErrorCode; message: string })

/** The whole life of a worker thread: it answers tasks in their order. */
export async function serveChunks(port: MessagePort, setup: unknown): Promise<void> {
  const { tokenizer, settings } = setup as WorkerSetup
  const loading = ChatTokenizer.fromFolder(tokenizer.folder, tokenizer.options).then(
    (loaded) => new RecordProcessor(loaded, settings),
  )
  loading.catch(() => undefined)
  port.on('message', (task: WorkerTask) => {
    void loading
      .then((processor) => processor.process({ ...task, records: unpackRecords(task.records) }))
      .then(
        (chunk) => answerWith(port, { id: task.id, chunk }),
        (error: unknown) => answerWith(port, { id: task.id, ...codeAndMessage(error) }),
      )
  })
  await loading.catch(() => undefined)
}

function answerWith(port: MessagePort, answer: WorkerAnswer): void {
  if (!('chunk' in answer)) {
    port.postMessage(answer)
    return
  }
  const { hashes, signatures, splitPoints, rowCounts, rowLengths, rowTrained, tokens } = answer.chunk
  const columns = [hashes, signatures, splitPoints, rowCounts, rowLengths, rowTrained, tokens]
  port.postMessage(
    answer,
    columns.map((column) => column.buffer as ArrayBuffer),
  )
}

function codeAndMessage(error: unknown): { code: DataErrorCode; message: string } {
  if (error instanceof DataError) return { code: error.code, message: error.message }
  const kind = error instanceof Error ? error.name : typeof error
  return { code: 'MIRASTRAL_DATA_INTERNAL', message: `internal: a worker thread failed (${kind})` }
}
