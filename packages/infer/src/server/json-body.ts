import type { Context } from 'hono'
import type { z } from 'zod'
import { ApiError } from './api-error.js'
import type { AppEnv } from './app.js'

/** Deeper than any request or schema that people write; keeps every later walk over the value from overflowing. */
const maxDepth = 100

/**
 * The JSON body of a request, checked. Throws an `ApiError` that names what is wrong and never repeats what was sent.
 */
export async function readJson<T>(c: Context<AppEnv>, schema: z.ZodType<T>): Promise<T> {
  const type = c.req.header('content-type') ?? ''
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new ApiError(415, 'invalid_request_error', 'The content-type must be application/json.')
  }
  const text = await readText(c.req.raw, c.get('bodyBytes'))
  if (nesting(text) > maxDepth) {
    throw new ApiError(400, 'invalid_request_error', `The body may be nested at most ${maxDepth} levels deep.`)
  }
  const result = schema.safeParse(parse(text))
  if (result.success) return result.data
  const problems = result.error.issues.slice(0, 10).map(({ path, message }) => {
    return path.length === 0 ? message : `${path.join('.')}: ${message}`
  })
  const param = result.error.issues[0]?.path.join('.')
  const details = param === undefined || param === '' ? {} : { param }
  throw new ApiError(400, 'invalid_request_error', problems.join('; '), details)
}

/** Reads no more than it may, whatever the content-length says or leaves out. */
async function readText(request: Request, maxBytes: number): Promise<string> {
  const tooLarge = (): ApiError =>
    new ApiError(413, 'invalid_request_error', `The body may have at most ${maxBytes} bytes.`)
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge()
  const reader: ReadableStreamDefaultReader<Uint8Array> | undefined = request.body?.getReader()
  const decoder = new TextDecoder()
  let text = ''
  let bytes = 0
  for (let chunk = await reader?.read(); chunk?.done === false; chunk = await reader?.read()) {
    bytes += chunk.value.length
    if (bytes > maxBytes) {
      await reader?.cancel()
      throw tooLarge()
    }
    text += decoder.decode(chunk.value, { stream: true })
  }
  return text + decoder.decode()
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ApiError(400, 'invalid_request_error', 'The body must be JSON.')
  }
}

/** How deep brackets nest in a JSON text, strings left out. */
function nesting(text: string): number {
  let depth = 0
  let deepest = 0
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (c === '"') {
      for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at++
    } else if (c === '[' || c === '{') deepest = Math.max(deepest, ++depth)
    else if (c === ']' || c === '}') depth--
  }
  return deepest
}
