import { z } from 'zod'

/** A field that other servers know and this one refuses unless it asks for nothing. */
const unsupported = (what: string) => z.null({ error: `${what} is not supported` }).optional()

const textPart = z.object({ type: z.literal('text', { error: 'only text parts are supported' }), text: z.string() })
const content = z.union([z.string(), z.array(textPart)], { error: 'must be a string or a list of text parts' })

const functionCall = z.object({
  id: z.string().min(1).max(200),
  type: z.literal('function').default('function'),
  function: z.object({ name: z.string().min(1).max(64), arguments: z.string() }),
})

const message = z.discriminatedUnion('role', [
  z.object({ role: z.enum(['system', 'developer']), content }),
  z.object({ role: z.literal('user'), content }),
  z.object({
    role: z.literal('assistant'),
    content: content.nullish(),
    tool_calls: z.array(functionCall).max(64).nullish(),
  }),
  z.object({ role: z.literal('tool'), content, tool_call_id: z.string().min(1).max(200) }),
])

const toolName = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')
const jsonSchema = z.record(z.string(), z.unknown())

const tool = z.object({
  type: z.literal('function', { error: 'only function tools are supported' }),
  function: z.object({ name: toolName, description: z.string().nullish(), parameters: jsonSchema.nullish() }),
})

const toolChoice = z.union(
  [
    z.enum(['auto', 'none', 'required']),
    z.object({ type: z.literal('function'), function: z.object({ name: toolName }) }),
  ],
  { error: 'must be auto, none, required or a function' },
)

const responseFormat = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text') }),
  z.object({ type: z.literal('json_object') }),
  z.object({ type: z.literal('json_schema'), json_schema: z.object({ name: z.string(), schema: jsonSchema }) }),
])

/** Options of both endpoints. `null` means left out, as in the OpenAI API. */
export const commonFields = {
  model: z.string(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  seed: z.int().nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(4)]).nullish(),
  n: z.literal(1, { error: 'only 1 is supported' }).nullish(),
  logit_bias: z.record(z.string(), z.never({ error: 'logit_bias is not supported' })).nullish(),
  user: z.string().nullish(),
  // What other servers of open models add to the OpenAI API.
  top_k: z.int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
}

/** The body of `POST /v1/chat/completions`. */
export const chatCompletionSchema = z
  .object({
    ...commonFields,
    messages: z.array(message).min(1).max(2000),
    max_tokens: z.int().min(1).nullish(),
    max_completion_tokens: z.int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(20).nullish(),
    tools: z.array(tool).max(128).nullish(),
    tool_choice: toolChoice.nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    response_format: responseFormat.nullish(),
    functions: unsupported('functions'),
    function_call: unsupported('function_call'),
    audio: unsupported('audio'),
    prediction: unsupported('prediction'),
    web_search_options: unsupported('web_search_options'),
    modalities: z.array(z.literal('text', { error: 'only text is supported' })).nullish(),
  })
  .refine((body) => body.top_logprobs === undefined || body.top_logprobs === null || body.logprobs === true, {
    path: ['top_logprobs'],
    error: 'needs logprobs to be true',
  })
  .refine((body) => !constrainsFormat(body) || (body.tools ?? []).length === 0 || body.tool_choice === 'none', {
    path: ['response_format'],
    error: 'cannot be combined with tools, unless tool_choice is none',
  })

const constrainsFormat = (body: { response_format?: { type: string } | null | undefined }): boolean =>
  (body.response_format?.type ?? 'text') !== 'text'

export type ChatCompletionBody = z.output<typeof chatCompletionSchema>

/** The body of `POST /v1/completions`. */
export const completionSchema = z.object({
  ...commonFields,
  prompt: z.union([z.string(), z.tuple([z.string()]).transform(([only]) => only)], {
    error: 'must be one string; token ids and several prompts are not supported',
  }),
  max_tokens: z.int().min(1).nullish(),
  logprobs: z.int().min(0).max(5).nullish(),
  echo: z.literal(false, { error: 'echo is not supported' }).nullish(),
  best_of: z.literal(1, { error: 'best_of is not supported' }).nullish(),
  suffix: unsupported('suffix'),
})

export type CompletionBody = z.output<typeof completionSchema>
