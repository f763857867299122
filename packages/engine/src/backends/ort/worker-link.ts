import { Worker } from 'node:worker_threads'
import { BackendUnavailableError, EngineError } from '../../errors.js'
import { OrtAnswerer } from './answer.js'
import type { ErrorMessage, OrtAnswer, OrtReply, OrtRequest } from './messages.js'

/** Where the executor runs: sends a request, resolves with its answer. Requests are executed in order. */
export interface OrtLink {
  send(request: OrtRequest, transfer?: readonly ArrayBuffer[]): Promise<OrtAnswer>
  close(): Promise<void>
}

/** The executor in this thread. */
export function inlineLink(): OrtLink {
  const answerer = new OrtAnswerer()
  let queue: Promise<unknown> = Promise.resolve()
  return {
    send(request) {
      const answer = queue.then(() => answerer.answer(request))
      queue = answer.catch(() => undefined)
      return answer
    },
    close: () => Promise.resolve(),
  }
}

interface Pending {
  readonly resolve: (answer: OrtAnswer) => void
  readonly reject: (error: Error) => void
}

function restore({ message, code, stack }: ErrorMessage): Error {
  const error =
    code === 'MIRASTRAL_BACKEND_UNAVAILABLE' ? new BackendUnavailableError(message) : new EngineError(message)
  if (stack !== undefined) error.stack = stack
  return error
}

/** The executor in a worker thread. The worker keeps the process alive only while an answer is awaited. */
export function workerLink(): OrtLink {
  const worker = new Worker(new URL('./ort-worker.js', import.meta.url))
  const pending = new Map<number, Pending>()
  let next = 0
  const settle = (id: number): Pending | undefined => {
    const entry = pending.get(id)
    pending.delete(id)
    if (pending.size === 0) worker.unref()
    return entry
  }
  const failAll = (error: Error): void => {
    for (const id of [...pending.keys()]) settle(id)?.reject(error)
  }
  worker.on('message', (reply: OrtReply) => {
    const entry = settle(reply.id)
    if ('error' in reply) entry?.reject(restore(reply.error))
    else entry?.resolve(reply.answer)
  })
  worker.on('error', failAll)
  worker.on('exit', (code) => failAll(new EngineError(`the ort worker thread ended with code ${code}`)))
  worker.unref()
  return {
    send(request, transfer = []) {
      return new Promise((resolve, reject) => {
        const id = next++
        pending.set(id, { resolve, reject })
        worker.ref()
        worker.postMessage({ id, request }, [...transfer])
      })
    },
    async close() {
      await worker.terminate()
    },
  }
}

/** The worker is a file of the built package; sources (as in tests) run in the calling thread. */
export const canUseWorker = (): boolean => import.meta.url.endsWith('.js')
