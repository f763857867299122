import type { ToolCall } from '@mirastral/data'
import type { TokenEvent } from './text-generator.js'

/** What a model wrote after the marker of tool calls. */
export type ToolCallParse =
  | { readonly ok: true; readonly calls: readonly ToolCall[]; readonly rest: string }
  /** `problem` says what is wrong with the form; it holds nothing of the text. */
  | { readonly ok: false; readonly problem: string; readonly text: string }

export const toolCallsMarker = '[TOOL_CALLS]'

/** More calls than one answer can reasonably hold. */
const maxCalls = 64

/**
 * Reads `[{"name": ..., "arguments": {...}, "id": ...}, ...]`, what Mistral's version 3 format has after `[TOOL_CALLS]`.
 * Arguments may also come as a JSON string, as some fine-tunes write them. `rest` is text after the list.
 */
export function parseToolCalls(text: string): ToolCallParse {
  const fail = (problem: string): ToolCallParse => ({ ok: false, problem, text })
  const start = text.search(/\S/)
  if (start === -1) return fail('nothing follows the marker of tool calls')
  const end = jsonEnd(text, start)
  if (end === undefined) return fail('the list of tool calls does not end')
  const value = parsedJson(text.slice(start, end))
  if (value === undefined) return fail('the tool calls are not JSON')
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (list.length === 0 || list.length > maxCalls) return fail(`there must be 1 to ${maxCalls} tool calls`)
  const calls = list.map(toolCall)
  const valid = calls.filter((call) => call !== undefined)
  if (valid.length < calls.length) return fail('a tool call needs a "name" and an object of "arguments"')
  return { ok: true, calls: valid, rest: text.slice(end).trimStart() }
}

function toolCall(value: unknown): ToolCall | undefined {
  if (!isRecord(value) || typeof value.name !== 'string' || value.name === '') return undefined
  const given = value.arguments ?? {}
  const args = typeof given === 'string' ? parsedJson(given === '' ? '{}' : given) : given
  if (!isRecord(args)) return undefined
  return { name: value.name, arguments: args, ...(typeof value.id === 'string' ? { id: value.id } : {}) }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** Where the JSON list or object that begins at `start` ends; undefined when it does not, or nothing of that kind begins. */
function jsonEnd(text: string, start: number): number | undefined {
  if (text[start] !== '[' && text[start] !== '{') return undefined
  let depth = 0
  let inString = false
  for (let at = start; at < text.length; at++) {
    const c = text[at]
    if (inString) {
      if (c === '\\') at++
      else if (c === '"') inString = false
    } else if (c === '"') inString = true
    else if (c === '[' || c === '{') depth++
    else if (c === ']' || c === '}') {
      depth--
      if (depth === 0) return at + 1
    }
  }
  return undefined
}

/**
 * Separates what an answer says to the person from its tool calls, as the tokens come: `push` gives text to show, `finish`
 * the calls. Text after the calls is not lost either: it comes with `finish`.
 */
export class ToolCallReader {
  readonly #marker: 'control' | 'text'
  #held = ''
  #json: string | undefined

  /** `marker` is the generator's `toolCallMarker`. */
  constructor(marker: 'control' | 'text') {
    this.#marker = marker
  }

  /** The part of a token's text that is for the person. */
  push(event: Pick<TokenEvent, 'text' | 'toolCalls'>): string {
    if (this.#json !== undefined) {
      this.#json += event.text
      return ''
    }
    if (event.toolCalls === true) {
      this.#json = event.text
      return ''
    }
    return this.#marker === 'text' ? this.#lookForMarker(event.text) : event.text
  }

  /** Whether tool calls have begun. */
  get calling(): boolean {
    return this.#json !== undefined
  }

  /** At the end of the answer: text that was held back, and the calls if there are any. */
  finish(): { readonly text: string; readonly parse: ToolCallParse | undefined } {
    if (this.#json === undefined) return { text: this.#held, parse: undefined }
    const parse = parseToolCalls(this.#json)
    return { text: parse.ok ? parse.rest : '', parse }
  }

  #lookForMarker(piece: string): string {
    const text = this.#held + piece
    const at = text.indexOf(toolCallsMarker)
    if (at !== -1) {
      this.#held = ''
      this.#json = text.slice(at + toolCallsMarker.length)
      return text.slice(0, at)
    }
    let keep = Math.min(toolCallsMarker.length - 1, text.length)
    while (keep > 0 && !text.endsWith(toolCallsMarker.slice(0, keep))) keep--
    this.#held = text.slice(text.length - keep)
    return text.slice(0, text.length - keep)
  }
}
