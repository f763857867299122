import { parentPort } from 'node:worker_threads'
import { OrtAnswerer } from './answer.js'
import type { ErrorMessage, OrtReply, OrtRequest } from './messages.js'

function describe(error: unknown): ErrorMessage {
  if (!(error instanceof Error)) return { message: String(error), code: '' }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  return { message: error.message, code, ...(error.stack === undefined ? {} : { stack: error.stack }) }
}

const port = parentPort
if (port) {
  const answerer = new OrtAnswerer()
  let queue = Promise.resolve()
  port.on('message', ({ id, request }: { id: number; request: OrtRequest }) => {
    queue = queue.then(async () => {
      const reply: OrtReply = await answerer.answer(request).then(
        (answer) => ({ id, answer }),
        (error: unknown) => ({ id, error: describe(error) }),
      )
      port.postMessage(reply)
    })
  })
}
