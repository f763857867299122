import type { Dtype } from './dtype.js'
import { dtypeRank, isDtype, tensorBytes } from './dtype.js'
import { SafetensorsError } from './errors.js'

/** What a file's header says of a tensor. */
export interface TensorInfo {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** Bytes from the start of the file to the tensor's first byte. */
  readonly byteOffset: number
  readonly byteLength: number
}

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: Readonly<Record<string, string>>
}

/** A tensor to be written, without its data. */
export interface TensorHeader {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
}

/** The format's own limit on the header (safetensors/src/tensor.rs: MAX_HEADER_SIZE). */
export const MAX_HEADER_BYTES = 100_000_000

const prefixBytes = 8

/**
 * Parses the JSON header. `bytes` are those after the 8-byte length; `fileBytes` is the size of the whole file.
 * Throws SafetensorsError `malformed` for everything that the reference implementation refuses, and for duplicate
 * keys, which the format's specification forbids.
 */
export function parseHeader(path: string, bytes: Uint8Array, fileBytes: number): Header {
  const fail = (rule: string): never => {
    throw new SafetensorsError('malformed', `${path}: ${rule}; the file is damaged or not a safetensors file`)
  }
  const json = parseJson(bytes, fail)
  const dataStart = prefixBytes + bytes.length
  const tensors = new Map<string, TensorInfo>()
  let metadata: Record<string, string> = {}
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') metadata = parseMetadata(value, fail)
    else tensors.set(name, parseTensor(name, value, dataStart, fail))
  }
  checkCoverage(tensors, dataStart, fileBytes, fail)
  return { tensors, metadata }
}

type Fail = (rule: string) => never

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parseJson(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  let text: string
  let json: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    json = JSON.parse(text)
  } catch {
    return fail('the header must be UTF-8 JSON, got something else')
  }
  if (!isRecord(json))
    return fail(`the header must be a JSON object, got ${Array.isArray(json) ? 'an array' : typeof json}`)
  if (countWrittenKeys(text) !== countParsedKeys(json)) fail('the header must not repeat a key, got a duplicate')
  return json
}

/** Key-value pairs in valid JSON text: its colons outside strings. */
function countWrittenKeys(text: string): number {
  let keys = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x3a) keys++
    else if (c === 0x22) {
      for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++
    }
  }
  return keys
}

/** Key-value pairs that the parser kept: of two equal keys it keeps one. */
function countParsedKeys(json: unknown): number {
  let keys = 0
  const pending = [json]
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (typeof value !== 'object' || value === null) continue
    const children: unknown[] = Object.values(value)
    if (!Array.isArray(value)) keys += children.length
    for (const child of children) if (typeof child === 'object' && child !== null) pending.push(child)
  }
  return keys
}

function parseMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (!isRecord(value)) return fail('__metadata__ must be an object of strings')
  // Without a prototype, a key like __proto__ is only a key.
  const metadata = Object.create(null) as Record<string, string>
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      return fail(`__metadata__ must be an object of strings, got ${typeof text} for one key`)
    if (!isUnicode(key + text)) return fail('__metadata__ must be valid Unicode')
    metadata[key] = text
  }
  return metadata
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function parseTensor(name: string, value: unknown, dataStart: number, fail: Fail): TensorInfo {
  const who = `tensor ${quoted(name)}`
  if (!isRecord(value)) return fail(`${who} must be an object`)
  if (!isUnicode(name)) return fail(`${who} must have a name of valid Unicode`)
  const { dtype, shape, data_offsets: offsets } = value
  if (!isDtype(dtype)) return fail(`${who} must have a known dtype, got ${quoted(String(dtype))}`)
  if (!Array.isArray(shape) || !shape.every(isSize)) return fail(`${who} must have a shape of whole numbers`)
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail(`${who} must have two whole numbers as data_offsets`)
  }
  const [begin, end] = offsets
  const byteLength = tensorBytes(dtype, shape)
  if (byteLength === undefined)
    return fail(`${who} must fill whole bytes, at most 2^53, got ${dtype}[${shape.join(',')}]`)
  if (end - begin !== byteLength) {
    return fail(`${who} ${dtype}[${shape.join(',')}] must have ${byteLength} bytes, got data_offsets [${begin},${end}]`)
  }
  return { dtype, shape, byteOffset: dataStart + begin, byteLength }
}

/** The data section must be covered exactly: no gap, no overlap, nothing before or after. */
function checkCoverage(
  tensors: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  fileBytes: number,
  fail: Fail,
): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength)
  let position = dataStart
  for (const [name, { byteOffset, byteLength }] of inOrder) {
    if (byteOffset !== position) {
      fail(
        `tensor ${quoted(name)} must begin at byte ${position - dataStart} of the data, got ${byteOffset - dataStart}`,
      )
    }
    position = byteOffset + byteLength
  }
  if (position !== fileBytes) {
    fail(`the file must have ${position} bytes, got ${fileBytes}${fileBytes < position ? ' (truncated)' : ''}`)
  }
}

/** No lone surrogates: those have no UTF-8 form. */
function isUnicode(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

/** A name from an untrusted file, safe to print: escaped and shortened. */
export function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name)
}

/**
 * The bytes of a file before its data, and where each tensor goes, laid out as the reference writer does: tensors by
 * descending dtype rank then by name (as UTF-8), compact JSON padded with spaces to a multiple of 8.
 * Throws SafetensorsError `entries` (duplicate or reserved names, impossible shapes) or `limit`.
 */
export function layOut(
  who: string,
  entries: readonly TensorHeader[],
  metadata: Readonly<Record<string, string>> | undefined,
): { bytes: Uint8Array; tensors: ReadonlyMap<string, TensorInfo> } {
  checkEntries(who, entries, metadata ?? {})
  const utf8 = new Map(entries.map(({ name }) => [name, Buffer.from(name)]))
  const key = (name: string): Buffer => utf8.get(name) ?? Buffer.alloc(0)
  const sorted = [...entries].sort(
    (a, b) => dtypeRank(a.dtype) - dtypeRank(b.dtype) || Buffer.compare(key(a.name), key(b.name)),
  )
  const parts: string[] = []
  if (metadata && Object.keys(metadata).length > 0) parts.push(`"__metadata__":${JSON.stringify(metadata)}`)
  const placed: [string, TensorInfo][] = []
  let position = 0
  for (const { name, dtype, shape } of sorted) {
    const byteLength = tensorBytes(dtype, shape) ?? 0
    const entry = { dtype, shape, data_offsets: [position, position + byteLength] }
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    placed.push([name, { dtype, shape: [...shape], byteOffset: position, byteLength }])
    position += byteLength
  }
  const json = Buffer.from(`{${parts.join(',')}}`)
  const headerBytes = Math.ceil(json.length / 8) * 8
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      'limit',
      `${who}: the header must have at most ${MAX_HEADER_BYTES} bytes, got ${headerBytes}`,
    )
  }
  const bytes = new Uint8Array(prefixBytes + headerBytes).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true)
  bytes.set(json, prefixBytes)
  const tensors = new Map(
    placed.map(([name, info]) => [name, { ...info, byteOffset: info.byteOffset + bytes.length }] as const),
  )
  return { bytes, tensors }
}

function checkEntries(
  who: string,
  entries: readonly TensorHeader[],
  metadata: Readonly<Record<string, unknown>>,
): void {
  const problems: string[] = []
  for (const [key, text] of Object.entries(metadata)) {
    if (typeof text !== 'string') problems.push(`metadata ${quoted(key)} is not a string`)
    else if (!isUnicode(key + text)) problems.push(`metadata ${quoted(key)} is not valid Unicode`)
  }
  const seen = new Set<string>()
  for (const { name, dtype, shape } of entries) {
    if (seen.has(name)) problems.push(`${quoted(name)} is given twice`)
    seen.add(name)
    if (name === '__metadata__') problems.push('"__metadata__" is reserved')
    if (!isUnicode(name)) problems.push(`${quoted(name)} is not valid Unicode`)
    if (!isDtype(dtype)) problems.push(`${quoted(name)} has the unknown dtype ${quoted(String(dtype))}`)
    else if (!shape.every(isSize) || tensorBytes(dtype, shape) === undefined) {
      problems.push(`${quoted(name)} has the impossible shape ${dtype}[${shape.join(',')}]`)
    }
  }
  if (problems.length > 0) {
    throw new SafetensorsError(
      'entries',
      `${who}: tensors must have distinct names and valid types, got ${problems.join('; ')}`,
    )
  }
}
