import type { Tool, ToolCall, Turn } from '@mirastral/data'
import type { ChatRequest, GenerationOptions, TextRequest, ToolChoice } from '../../text-generator.js'
import { ApiError } from '../api-error.js'
import type { ChatCompletionBody, CompletionBody } from './chat-schema.js'

/** The request that a body of `/v1/chat/completions` stands for. Throws an `ApiError` where its parts do not fit together. */
export function chatRequest(body: ChatCompletionBody): ChatRequest {
  const maxNewTokens = body.max_completion_tokens ?? body.max_tokens
  const jsonSchema = requestedSchema(body)
  return {
    ...generationOptions(body),
    messages: body.messages.map(turn),
    ...toolOptions(body),
    ...given('maxNewTokens', maxNewTokens),
    ...(body.logprobs === true ? { logprobs: body.top_logprobs ?? 0 } : {}),
    ...given('jsonSchema', jsonSchema),
  }
}

/** The request that a body of `/v1/completions` stands for: 16 tokens unless it says otherwise, as in the OpenAI API. */
export function textRequest(body: CompletionBody): TextRequest {
  return {
    ...generationOptions(body),
    prompt: body.prompt,
    maxNewTokens: body.max_tokens ?? 16,
    ...given('logprobs', body.logprobs),
  }
}

/** An object with the value under the name, or an empty one where there is none. */
function given<Name extends string, T>(name: Name, value: T | null | undefined): Partial<Record<Name, T>> {
  return value === null || value === undefined ? {} : ({ [name]: value } as Record<Name, T>)
}

type CommonBody = Pick<
  CompletionBody,
  | 'temperature'
  | 'top_p'
  | 'top_k'
  | 'min_p'
  | 'repetition_penalty'
  | 'presence_penalty'
  | 'frequency_penalty'
  | 'seed'
  | 'stop'
>

function generationOptions(body: CommonBody): GenerationOptions {
  return {
    // top_p 0 is what some clients send for greedy decoding.
    ...given('temperature', body.top_p === 0 ? 0 : body.temperature),
    ...given('topP', body.top_p === 0 ? undefined : body.top_p),
    ...given('topK', body.top_k),
    ...given('minP', body.min_p),
    ...given('repetitionPenalty', body.repetition_penalty),
    ...given('presencePenalty', body.presence_penalty),
    ...given('frequencyPenalty', body.frequency_penalty),
    ...given('seed', body.seed),
    ...given('stop', typeof body.stop === 'string' ? [body.stop] : body.stop),
  }
}

function requestedSchema({ response_format: format }: ChatCompletionBody): Record<string, unknown> | undefined {
  if (format?.type === 'json_object') return { type: 'object' }
  return format?.type === 'json_schema' ? format.json_schema.schema : undefined
}

function toolOptions(body: ChatCompletionBody): Pick<ChatRequest, 'tools' | 'toolChoice' | 'parallelToolCalls'> {
  const tools = (body.tools ?? []).map((t): Tool => {
    const { name, description, parameters } = t.function
    return { name, ...given('description', description), parameters: parameters ?? { type: 'object', properties: {} } }
  })
  const toolChoice = requestedChoice(body.tool_choice)
  if (tools.length === 0) {
    if (toolChoice !== undefined && toolChoice !== 'none' && toolChoice !== 'auto') {
      const message = 'tool_choice: there are no tools to choose from'
      throw new ApiError(400, 'invalid_request_error', message, { param: 'tool_choice' })
    }
    return {}
  }
  return { tools, ...given('toolChoice', toolChoice), ...given('parallelToolCalls', body.parallel_tool_calls) }
}

function requestedChoice(choice: ChatCompletionBody['tool_choice']): ToolChoice | undefined {
  if (choice === null || choice === undefined) return undefined
  return typeof choice === 'string' ? choice : { name: choice.function.name }
}

type Message = ChatCompletionBody['messages'][number]

const textOf = (content: string | readonly { text: string }[] | null | undefined): string =>
  typeof content === 'string' ? content : (content ?? []).map((part) => part.text).join('')

function turn(message: Message, index: number): Turn {
  switch (message.role) {
    case 'system':
    case 'developer':
      return { role: 'system', content: textOf(message.content) }
    case 'user':
      return { role: 'user', content: textOf(message.content) }
    case 'tool':
      return { role: 'tool', content: textOf(message.content), toolCallId: message.tool_call_id }
    case 'assistant': {
      const calls = (message.tool_calls ?? []).map((call) => toolCall(call, index))
      const content = textOf(message.content)
      return calls.length === 0 ? { role: 'assistant', content } : { role: 'assistant', content, toolCalls: calls }
    }
  }
}

function toolCall(
  { id, function: f }: { id: string; function: { name: string; arguments: string } },
  index: number,
): ToolCall {
  const args = parsedObject(f.arguments === '' ? '{}' : f.arguments)
  if (args === undefined) {
    const param = `messages.${index}.tool_calls`
    const message = `${param}: the arguments of a tool call must be the text of a JSON object`
    throw new ApiError(400, 'invalid_request_error', message, { param })
  }
  return { id, name: f.name, arguments: args }
}

function parsedObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}
