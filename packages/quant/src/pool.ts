import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { SafetensorsReader } from '@mirastral/safetensors'
import type { QuantType } from './codebook.js'
import type { QuantErrorKind } from './errors.js'
import { QuantError } from './errors.js'
import type { QuantizeOptions } from './quantize.js'
import { allocate, dtypeOf, lengthOf, whoOf } from './quantize.js'
import type { QuantTask, QuantTaskResult, StoredRun } from './task.js'
import { createTaskRunner } from './task.js'
import type { FloatDtype, FloatSource, FourBitTensor, Nf4Tensor } from './tensor.js'

/** What a worker answers to a `QuantTask`. */
export type WorkerReply = { result: QuantTaskResult } | { error: { kind: QuantErrorKind; message: string } }

/** Elements of a task: a few milliseconds of work, a multiple of every block size. */
const taskElements = 2 ** 20

const dtypeNames = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const satisfies Record<string, FloatDtype>

/** Whoever does tasks, one at a time. */
interface Lane {
  run(task: QuantTask): Promise<QuantTaskResult>
  close(): Promise<void>
}

/**
 * Quantizes with several threads, which it keeps, with their look-up tables, until `close`. Results do not depend on
 * the number of threads.
 */
export class QuantPool {
  private readonly idle: Lane[]
  private readonly waiting: ((lane: Lane) => void)[] = []

  private constructor(private readonly lanes: readonly Lane[]) {
    this.idle = [...lanes]
  }

  /** `threads`: default one per available core. One thread is the caller's own, and so blocks it while it works. */
  static start({ threads = availableParallelism() }: { threads?: number } = {}): QuantPool {
    if (!Number.isInteger(threads) || threads < 1) {
      throw new QuantError('usage', `QuantPool: threads must be a whole number from 1 on, got ${threads}`)
    }
    // From TypeScript sources there is no worker file to start: the same tasks run in this thread.
    const inThisThread = threads === 1 || import.meta.url.endsWith('.ts')
    return new QuantPool(Array.from({ length: inThisThread ? 1 : threads }, inThisThread ? localLane : workerLane))
  }

  /** Quantizes weights in memory. Throws as `quantizeNf4`. Memory that is not shared is copied piece by piece. */
  async quantize(data: FloatSource, quantType: QuantType, options: QuantizeOptions = {}): Promise<FourBitTensor> {
    const tensor = allocate(lengthOf(data), dtypeOf(data), quantType, options)
    await this.quantizeRuns(tensor, options, lengthOf(data), (start, end) => slice(data, start, end))
    return tensor
  }

  /**
   * Quantizes an F32, F16 or BF16 tensor of a safetensors file, which the threads read piece by piece: its
   * full-precision weights are never in memory as a whole.
   */
  async quantizeStored(
    reader: SafetensorsReader,
    name: string,
    quantType: QuantType,
    options: Omit<QuantizeOptions, 'shape' | 'name'> = {},
  ): Promise<FourBitTensor> {
    const path = reader.pathOf(name)
    const info = reader.tensors.get(name)
    const dtype = info?.dtype
    if (!info || (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16')) {
      throw new QuantError('usage', `quantize ${name}: the dtype must be F32, F16 or BF16, got ${dtype ?? 'nothing'}`)
    }
    const all = { ...options, name, shape: info.shape }
    const elementBytes = dtype === 'F32' ? 4 : 2
    const count = info.byteLength / elementBytes
    const tensor = allocate(count, dtypeNames[dtype], quantType, all)
    await this.quantizeRuns(tensor, all, count, (start, end): StoredRun => {
      return { path, byteOffset: info.byteOffset + start * elementBytes, dtype, count: end - start }
    })
    return tensor
  }

  async close(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.close()))
  }

  private async quantizeRuns(
    { quantType, blockSize, codes, absmax }: FourBitTensor,
    options: QuantizeOptions,
    count: number,
    sourceOf: (start: number, end: number) => QuantTask['source'],
  ): Promise<void> {
    const runs: Promise<void>[] = []
    for (let start = 0; start < count; start += taskElements) {
      const end = Math.min(start + taskElements, count)
      const run = this.withLane(async (lane) => {
        const source = sourceOf(start, end)
        const result = await lane.run({ source, quantType, blockSize, who: whoOf(options), first: start })
        codes.set(result.codes, start / 2)
        absmax.set(result.absmax, start / blockSize)
      })
      runs.push(run)
    }
    const results = await Promise.allSettled(runs)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  private async withLane(work: (lane: Lane) => Promise<void>): Promise<void> {
    const lane = this.idle.pop() ?? (await new Promise<Lane>((resolve) => this.waiting.push(resolve)))
    try {
      await work(lane)
    } finally {
      const next = this.waiting.shift()
      if (next) next(lane)
      else this.idle.push(lane)
    }
  }
}

/** `quantizeNf4` with all cores, for one large tensor; for many, keep a `QuantPool`. */
export async function quantizeNf4Parallel(
  data: FloatSource,
  options: QuantizeOptions & { threads?: number } = {},
): Promise<Nf4Tensor> {
  const tasks = Math.max(Math.ceil(lengthOf(data) / taskElements), 1)
  const pool = QuantPool.start({ threads: Math.min(options.threads ?? availableParallelism(), tasks) })
  try {
    return { ...(await pool.quantize(data, 'nf4', options)), quantType: 'nf4' }
  } finally {
    await pool.close()
  }
}

function localLane(): Lane {
  const runTask = createTaskRunner()
  return { run: (task) => Promise.resolve().then(() => runTask(task)), close: () => Promise.resolve() }
}

/** A worker thread that does one task at a time. It keeps the process alive only while it works. */
function workerLane(): Lane {
  const worker = new Worker(new URL('./quant-worker.js', import.meta.url), { execArgv: [] })
  worker.unref()
  let pending: { resolve: (result: QuantTaskResult) => void; reject: (error: Error) => void } | undefined
  let failure: QuantError | undefined
  const stop = (reason: string): void => {
    failure ??= new QuantError('io', `QuantPool: a worker thread ended: ${reason}`)
    pending?.reject(failure)
  }
  worker.on('error', (error) => stop(error.message))
  worker.on('exit', (exitCode) => stop(`exit code ${exitCode}`))
  worker.on('message', (reply: WorkerReply) => {
    worker.unref()
    if ('result' in reply) pending?.resolve(reply.result)
    else pending?.reject(new QuantError(reply.error.kind, reply.error.message))
    pending = undefined
  })
  return {
    run: (task) =>
      new Promise((resolve, reject) => {
        if (failure) return reject(failure)
        pending = { resolve, reject }
        worker.ref()
        worker.postMessage(task, transferOf(task.source))
      }),
    close: async () => {
      await worker.terminate()
    },
  }
}

/** A run of a source in memory: a view where a worker can share it, else a copy that moves to the worker. */
function slice(source: FloatSource, start: number, end: number): FloatSource {
  const part = <T extends Float32Array | Uint16Array>(data: T): T =>
    (data.buffer instanceof SharedArrayBuffer ? data.subarray(start, end) : data.slice(start, end)) as T
  return source instanceof Float32Array ? part(source) : { dtype: source.dtype, data: part(source.data) }
}

function transferOf(source: QuantTask['source']): ArrayBuffer[] {
  if ('path' in source) return []
  const { buffer } = source instanceof Float32Array ? source : source.data
  return buffer instanceof ArrayBuffer ? [buffer] : []
}
