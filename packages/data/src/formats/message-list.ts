import { z } from 'zod'
import type { Draft, Tool, ToolCall, Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { checkShape, isObject, parsedIfJsonText } from './format.js'

/** `null` and an absent field mean the same. */
function optional<T extends z.ZodType>(schema: T): z.ZodType<z.output<T> | undefined> {
  return schema.nullish().transform((value) => value ?? undefined)
}

const argumentsSchema = optional(z.union([z.string(), z.record(z.string(), z.unknown())]))
const functionSchema = z.looseObject({ name: z.string().min(1), arguments: argumentsSchema })
/** Some programs number their calls. */
const idSchema = optional(z.union([z.string(), z.number().transform(String)]))
const callSchema = z.union([
  z.looseObject({ id: idSchema, function: functionSchema }),
  z.looseObject({ id: idSchema, name: z.string().min(1), arguments: argumentsSchema }),
])
const partSchema = z.looseObject({ type: z.string(), text: z.string().optional() })
const messageSchema = z.looseObject({
  role: z.string(),
  content: optional(z.union([z.string(), z.array(z.union([z.string(), partSchema]))])),
  tool_calls: optional(z.array(callSchema)),
  function_call: optional(functionSchema),
  tool_call_id: idSchema,
  weight: optional(z.number()),
  name: optional(z.string()),
})
const messagesSchema = z.array(messageSchema)

const toolBodySchema = z.looseObject({
  name: z.string().min(1),
  description: optional(z.string()),
  parameters: optional(z.record(z.string(), z.unknown())),
})
const toolsSchema = z.array(z.union([z.looseObject({ function: toolBodySchema }), toolBodySchema]))

type Message = z.infer<typeof messageSchema>

/** True for what could be one message of OpenAI's form. */
export function isMessage(value: unknown): boolean {
  return isObject(value) && typeof value.role === 'string' && ('content' in value || 'tool_calls' in value)
}

export function isMessageList(value: unknown): value is unknown[] {
  return Array.isArray(value) && value.length > 0 && value.every(isMessage)
}

/** OpenAI's messages (the older function_call and role "function" too) as turns. */
export function turnsOfMessages(messages: unknown, field: string): Turn[] {
  return checkShape(messagesSchema, messages, field).map((message, i) => turnOf(message, `${field}.${i}`))
}

function turnOf(message: Message, where: string): Turn {
  const content = textOf(message.content, where)
  switch (message.role.toLowerCase()) {
    case 'system':
    case 'developer':
      return { role: 'system', content }
    case 'user':
    case 'human':
      return { role: 'user', content }
    case 'assistant': {
      const toolCalls = callsOf(message, where)
      return {
        role: 'assistant',
        content,
        ...(toolCalls.length === 0 ? {} : { toolCalls }),
        // OpenAI's fine-tuning files leave an answer out of the loss in this way.
        ...(message.weight === 0 ? { train: false } : {}),
      }
    }
    case 'tool':
    case 'function':
      return {
        role: 'tool',
        content,
        ...(message.tool_call_id === undefined ? {} : { toolCallId: message.tool_call_id }),
        ...(message.name === undefined ? {} : { name: message.name }),
      }
    default:
      throw new RecordError('unknown-role', `${where}.role`)
  }
}

function textOf(content: Message['content'], where: string): string {
  if (content === undefined) return ''
  if (typeof content === 'string') return content
  const texts = content.map((part) => {
    if (typeof part === 'string') return part
    if (part.type !== 'text' || part.text === undefined)
      throw new RecordError('unsupported-content', `${where}.content`)
    return part.text
  })
  return texts.join('')
}

function callsOf(message: Message, where: string): ToolCall[] {
  const older = message.function_call === undefined ? [] : [{ function: message.function_call }]
  return [...(message.tool_calls ?? []), ...older].map((call, i) => {
    const body = 'function' in call ? checkShape(functionSchema, call.function, `${where}.tool_calls.${i}`) : call
    const id = 'id' in call && typeof call.id === 'string' && call.id !== '' ? { id: call.id } : {}
    const { name } = checkShape(functionSchema, body, `${where}.tool_calls.${i}`)
    return { ...id, name, arguments: parsedArguments(body.arguments, `${where}.tool_calls.${i}`) }
  })
}

/** APIs give the arguments as a JSON string, which would be encoded a second time by a template. */
function parsedArguments(value: unknown, where: string): Record<string, unknown> {
  if (value === undefined || value === '') return {}
  const parsed = parsedIfJsonText(value)
  if (!isObject(parsed)) throw new RecordError('tool-arguments', where)
  return parsed
}

export function toolsOf(value: unknown, field: string): Tool[] {
  const list = parsedIfJsonText(value)
  if (list === undefined || list === null || list === '') return []
  return checkShape(toolsSchema, list, field).map((tool, i) => {
    const body = 'function' in tool ? tool.function : tool
    const { name, description, parameters } = checkShape(toolBodySchema, body, `${field}.${i}`)
    return { name, ...(description === undefined ? {} : { description }), parameters: parameters ?? {} }
  })
}

export function draftOf(turns: Turn[], tools: Tool[] = []): Draft {
  return tools.length === 0 ? { turns } : { turns, tools }
}
