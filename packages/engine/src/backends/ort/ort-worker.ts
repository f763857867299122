import { parentPort } from 'node:worker_threads'
import { OrtAnswerer } from './answer.js'
import type { ErrorMessage, OrtAnswer, OrtReply, OrtRequest } from './messages.js'

function describe(error: unknown): ErrorMessage {
  if (!(error instanceof Error)) return { message: String(error), code: '' }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  return { message: error.message, code, ...(error.stack === undefined ? {} : { stack: error.stack }) }
}

/** The buffers of an answer, which are its own: they are handed over, not copied. */
function buffersOf(answer: OrtAnswer): ArrayBuffer[] {
  if (typeof answer !== 'object') return []
  const views = Object.values(answer).filter((value) => ArrayBuffer.isView(value))
  return [...new Set(views.map((view) => view.buffer as ArrayBuffer))]
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
      port.postMessage(reply, 'answer' in reply ? buffersOf(reply.answer) : [])
    })
  })
}
