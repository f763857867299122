import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { DataError } from '../errors.js'
import type { ProcessedChunk } from '../records/processed-chunk.js'
import { RecordProcessor } from '../records/record-processor.js'
import type { ProcessSettings, RecordTask } from '../records/record-settings.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { packRecords } from './packed-records.js'
import type { WorkerAnswer, WorkerSetup, WorkerTask } from './worker-thread.js'

/** Below this a thread takes longer to start than it saves. Bytes of input. */
const MIN_BYTES_FOR_THREADS = 16 << 20
/**
 * Beside the calling thread, which reads, removes duplicates and keeps the rows. With more of them, at 55 MB and the tokenizer
 * each, memory would not stay under 300 MB.
 */
const AUTOMATIC_THREADS = 1
/** Of a thread's heap: what V8 would take by default is several times what a chunk of records needs. MB. */
const YOUNG_GENERATION = 4

/** Processes records, on this thread or on others; results are the same. */
export interface ProcessPool {
  /** How many tasks should be under way at once. */
  readonly width: number
  process(task: RecordTask): Promise<ProcessedChunk>
  close(): Promise<void>
}

/** @param threads how many to start; 0 works on this thread, `auto` decides by the bytes to be read. */
export function createPool(
  tokenizer: ChatTokenizer,
  settings: ProcessSettings,
  threads: number | 'auto',
  inputBytes: number,
): ProcessPool {
  const automatic = inputBytes < MIN_BYTES_FOR_THREADS || availableParallelism() === 1 ? 0 : AUTOMATIC_THREADS
  const count = threads === 'auto' ? automatic : threads
  // Sources, as tests run them, have no built worker beside them.
  const isBuilt = !import.meta.url.endsWith('.ts')
  if (count === 0 || !isBuilt) return inlinePool(tokenizer, settings)
  return new ThreadPool({ tokenizer: tokenizer.origin, settings }, count)
}

function inlinePool(tokenizer: ChatTokenizer, settings: ProcessSettings): ProcessPool {
  const processor = new RecordProcessor(tokenizer, settings)
  return {
    width: 1,
    process: (task) => new Promise((resolve) => resolve(processor.process(task))),
    close: () => Promise.resolve(),
  }
}

interface Waiting {
  resolve: (chunk: ProcessedChunk) => void
  reject: (error: Error) => void
}

class ThreadPool implements ProcessPool {
  /** One task to work on and one to go on with, for each thread. */
  readonly width: number
  private readonly workers: Worker[]
  private readonly waiting = new Map<number, Waiting>()
  private tasks = 0
  private closed = false

  constructor(setup: WorkerSetup, threads: number) {
    this.width = threads * 2
    this.workers = Array.from({ length: threads }, () => this.start(setup))
  }

  process({ records, ...place }: RecordTask): Promise<ProcessedChunk> {
    const id = this.tasks++
    const task: WorkerTask = { ...place, id, records: packRecords(records) }
    const worker = this.workers[id % this.workers.length]
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      worker.postMessage(task, [task.records.bytes.buffer])
    })
  }

  async close(): Promise<void> {
    this.closed = true
    await Promise.all(this.workers.map((worker) => worker.terminate()))
  }

  private start(setup: WorkerSetup): Worker {
    const worker = new Worker(new URL('./process-worker.js', import.meta.url), {
      workerData: setup,
      // The worker is built: a loader of TypeScript that the program was started with would only take its memory.
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION },
    })
    worker.on('message', (answer: WorkerAnswer) => {
      const waiting = this.waiting.get(answer.id)
      this.waiting.delete(answer.id)
      if ('chunk' in answer) waiting?.resolve(answer.chunk)
      else waiting?.reject(new DataError(answer.code, answer.message))
    })
    worker.on('error', () => this.fail())
    worker.on('exit', () => this.fail())
    return worker
  }

  /** A thread that ends by itself takes its tasks with it. */
  private fail(): void {
    if (this.closed) return
    const error = new DataError('MIRASTRAL_DATA_INTERNAL', 'internal: a worker thread ended; is there enough memory?')
    for (const { reject } of this.waiting.values()) reject(error)
    this.waiting.clear()
  }
}
