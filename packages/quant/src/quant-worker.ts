import { parentPort } from 'node:worker_threads'
import { QuantError } from './errors.js'
import type { WorkerReply } from './pool.js'
import type { QuantTask } from './task.js'
import { createTaskRunner } from './task.js'

const runTask = createTaskRunner()

parentPort?.on('message', (task: QuantTask) => {
  let reply: WorkerReply
  try {
    reply = { result: runTask(task) }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    reply = { error: { kind: error instanceof QuantError ? error.kind : 'io', message } }
  }
  parentPort?.postMessage(reply, 'result' in reply ? [reply.result.codes.buffer, reply.result.absmax.buffer] : [])
})
