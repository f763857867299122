import { randomUUID } from 'node:crypto'
import type { Context, Hono } from 'hono'
import type { GenerationEvent, GenerationRequest, TextGenerator } from '../../text-generator.js'
import { ApiError } from '../api-error.js'
import type { AppEnv, AppServices } from '../app.js'
import { readJson } from '../json-body.js'
import type { RequestRecord } from '../request-record.js'
import { dataEvent } from '../sse.js'
import { chatChunks, chatCompletion } from './chat-answer.js'
import type { AnswerHead } from './chat-answer.js'
import { chatCompletionSchema, completionSchema } from './chat-schema.js'
import { textChunks, textCompletion } from './text-answer.js'
import { chatRequest, textRequest } from './to-request.js'

/** The endpoints of the OpenAI API. */
export function openaiRoutes(app: Hono<AppEnv>, services: AppServices): void {
  app.use('/v1/*', async (c, next) => {
    services.checkAccess(c)
    await next()
  })
  const described = (id: string): object => ({ id, object: 'model', created: services.created, owned_by: 'mirastral' })
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [...services.models().keys()].map(described) }))
  app.get('/v1/models/:id{.+}', (c) => c.json(described(findModel(services, c.req.param('id')).modelId)))
  app.post('/v1/chat/completions', (c) => answerChat(c, services))
  app.post('/v1/completions', (c) => answerText(c, services))
  app.on(['GET', 'PUT', 'PATCH', 'DELETE'], ['/v1/chat/completions', '/v1/completions'], () => {
    throw new ApiError(405, 'invalid_request_error', 'Use POST.')
  })
}

function findModel(services: AppServices, id: string): TextGenerator {
  const models = services.models()
  const model = models.get(id)
  if (model !== undefined) return model
  const names = [...models.keys()].join(', ')
  const details = { code: 'model_not_found', param: 'model' }
  throw new ApiError(404, 'not_found_error', `There is no such model. Models: ${names}`, details)
}

async function answerChat(c: Context<AppEnv>, services: AppServices): Promise<Response> {
  const body = await readJson(c, chatCompletionSchema)
  const model = findModel(services, body.model)
  const request = chatRequest(body)
  const options = {
    toolCallMarker: model.toolCallMarker,
    hasTools: (request.tools ?? []).length > 0 && request.toolChoice !== 'none',
    parallelToolCalls: request.parallelToolCalls ?? true,
    logprobs: request.logprobs !== undefined,
    includeUsage: body.stream_options?.include_usage === true,
  }
  const head = newHead('chatcmpl', model)
  return answer(c, services, { model, request, stream: body.stream === true }, {
    whole: (events) => chatCompletion(events, head, options),
    chunks: (events) => chatChunks(events, head, options),
  }) // prettier-ignore
}

async function answerText(c: Context<AppEnv>, services: AppServices): Promise<Response> {
  const body = await readJson(c, completionSchema)
  const model = findModel(services, body.model)
  const request = textRequest(body)
  const options = {
    logprobs: request.logprobs !== undefined,
    includeUsage: body.stream_options?.include_usage === true,
  }
  const head = newHead('cmpl', model)
  return answer(c, services, { model, request, stream: body.stream === true }, {
    whole: (events) => textCompletion(events, head, options),
    chunks: (events) => textChunks(events, head, options),
  }) // prettier-ignore
}

interface Wish {
  readonly model: TextGenerator
  readonly request: GenerationRequest
  readonly stream: boolean
}

interface Form {
  whole(events: AsyncIterable<GenerationEvent>): Promise<object>
  chunks(events: AsyncIterable<GenerationEvent>): AsyncGenerator<object, void, void>
}

async function answer(
  c: Context<AppEnv>,
  { answering }: AppServices,
  { model, request, stream }: Wish,
  form: Form,
): Promise<Response> {
  const record = c.get('record')
  record.set({ model: model.modelId, stream })
  const client = c.req.raw.signal
  const events = (signal: AbortSignal): AsyncIterable<GenerationEvent> =>
    counted(model.generate(request, signal), record)
  if (stream) return answering.stream(client, record, (signal) => asEvents(form.chunks(events(signal))))
  return c.json(await answering.whole(client, record, (signal) => form.whole(events(signal))))
}

async function* asEvents(chunks: AsyncGenerator<object, void, void>): AsyncGenerator<string, void, void> {
  for await (const chunk of chunks) yield dataEvent(chunk)
  yield 'data: [DONE]\n\n'
}

/** Notes the number of tokens for the log. */
async function* counted(
  events: AsyncIterable<GenerationEvent>,
  record: RequestRecord,
): AsyncGenerator<GenerationEvent, void, void> {
  for await (const event of events) {
    if (event.type === 'finish') record.set({ ...event.usage, finish: event.reason })
    yield event
  }
}

function newHead(prefix: string, model: TextGenerator): AnswerHead {
  const id = `${prefix}-${randomUUID().replaceAll('-', '')}`
  return { id, created: Math.floor(Date.now() / 1000), model: model.modelId }
}
