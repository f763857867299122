import { detectFormat } from '../formats/registry.js'
import { isMessage } from '../formats/message-list.js'
import { isObject } from '../formats/format.js'
import type { JsonObject } from '../formats/format.js'
import { JsonScanner } from './json-scanner.js'
import type { ScannedValue } from './json-scanner.js'
import type { Limits } from './limits.js'
import { LineSplitter } from './line-splitter.js'
import type { RawRecord } from './raw-record.js'

/** How deep a wrapping object may hide its list of records: `{"data": {"conversations": [...]}}`. */
const MAX_WRAPPING = 3
/** A first line is looked at as far as this. */
const SNIFF_BYTES = 64 << 10

export interface JsonReadOptions {
  limits: Limits
  /** True for an object that is a record itself; others are looked into for a list of records. */
  isRecord?: (value: JsonObject) => boolean
}

/**
 * The records of JSON lines. A line that is broken costs that line only. A file whose first line can only be the beginning of
 * a value over several lines is read as JSON, whatever its name.
 */
export async function* readJsonLines(
  chunks: AsyncIterable<Uint8Array>,
  options: JsonReadOptions,
): AsyncGenerator<RawRecord[]> {
  const iterator = chunks[Symbol.asyncIterator]()
  const first = await iterator.next()
  if (first.done === true) return
  const all = (async function* () {
    yield first.value
    yield* { [Symbol.asyncIterator]: () => iterator }
  })()
  if (opensValue(first.value)) {
    yield* readJson(all, options)
    return
  }
  const splitter = new LineSplitter(options.limits)
  for await (const chunk of all) yield splitter.push(chunk)
  yield splitter.finish()
}

/** A line that is one bracket, or a list's first element with the comma after it. */
function opensValue(chunk: Uint8Array): boolean {
  const first = Buffer.from(chunk.buffer, chunk.byteOffset, Math.min(chunk.length, SNIFF_BYTES)).toString('latin1')
  return /^\s*(?:[[{][ \t]*\r?\n|\[[^\n]*,[ \t]*\r?\n)/.test(first)
}

/**
 * The records of a JSON file: a list, one record, an object that wraps lists of records, or values one after another. A
 * list of messages is one record.
 */
export async function* readJson(
  chunks: AsyncIterable<Uint8Array>,
  options: JsonReadOptions,
): AsyncGenerator<RawRecord[]> {
  const scanner = new JsonScanner(options.limits)
  const lists = new MessageLists(options)
  for await (const chunk of chunks) {
    yield scanner.push(chunk).flatMap((value) => [...lists.before(value), ...recordsOf(value, lists, options)])
  }
  scanner.finish()
  yield lists.finish()
}

function recordsOf(value: ScannedValue, lists: MessageLists, options: JsonReadOptions): RawRecord[] {
  if (value.kind === 'element') return lists.take(value)
  const parsed = parseQuietly(value.raw)
  if (!isObject(parsed)) return [value.raw]
  return unwrap(parsed, options, 0) ?? [value.raw]
}

/** The records that an object holds, or null where it is a record itself (or nothing that is known). */
function unwrap(object: JsonObject, options: JsonReadOptions, depth: number): RawRecord[] | null {
  const isRecord = options.isRecord ?? isOfKnownFormat
  if (depth === MAX_WRAPPING || isRecord(object)) return null
  const found: RawRecord[] = []
  for (const member of Object.values(object)) {
    if (Array.isArray(member) && member.length > 0) {
      if (member.every(isMessage)) found.push({ value: member as unknown[] })
      else if (member.every((item) => isObject(item) || Array.isArray(item))) {
        found.push(...member.map((value: unknown) => ({ value })))
      }
    } else if (isObject(member)) {
      if (isRecord(member)) found.push({ value: member })
      else found.push(...(unwrap(member, options, depth + 1) ?? []))
    }
  }
  return found.length === 0 ? null : found
}

/** Gathers a top-level list whose elements are messages: it is one conversation, not a list of records. */
class MessageLists {
  private readonly limits: Limits
  private readonly isRecord: (value: JsonObject) => boolean
  private top = -1
  private messages: unknown[] | null = null
  private bytes = 0

  constructor({ limits, isRecord = isOfKnownFormat }: JsonReadOptions) {
    this.limits = limits
    this.isRecord = isRecord
  }

  /** What a list that has ended leaves. */
  before(value: ScannedValue): RawRecord[] {
    return value.top === this.top ? [] : this.finish()
  }

  take({ raw, top }: ScannedValue): RawRecord[] {
    if (top !== this.top) {
      this.top = top
      const first = parseQuietly(raw)
      this.messages = isBareMessage(first) && !this.isRecord(first) ? [] : null
      this.bytes = 0
    }
    if (this.messages === null) return [raw]
    this.bytes += 'bytes' in raw ? raw.bytes.length : Infinity
    this.messages.push(this.bytes > this.limits.maxRecordBytes ? undefined : parseQuietly(raw))
    return []
  }

  finish(): RawRecord[] {
    const { messages, bytes } = this
    this.messages = null
    if (messages === null) return []
    return [bytes > this.limits.maxRecordBytes ? { rule: 'record-too-large' } : { value: messages }]
  }
}

function isBareMessage(value: unknown): value is JsonObject {
  if (!isObject(value)) return false
  const isShareGpt = typeof value.from === 'string' && typeof value.value === 'string'
  return isMessage(value) || isShareGpt
}

function isOfKnownFormat(value: JsonObject): boolean {
  return detectFormat(value) !== null
}

function parseQuietly(raw: RawRecord): unknown {
  if (!('bytes' in raw)) return undefined
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(raw.bytes)) as unknown
  } catch {
    return undefined
  }
}
