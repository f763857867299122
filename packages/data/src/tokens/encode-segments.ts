import type { TokenBytes } from './token-bytes.js'
import { tokenizerError } from './tokenizer-files.js'
import type { AddedToken } from './tokenizer-files.js'
import type { Segment } from './segments.js'
import type { TextEncoder } from './text-encoder.js'

/** Tokens, and for each whether it is trained on. */
export interface EncodedSegments {
  ids: number[]
  trained: boolean[]
}

/**
 * Tokenizes a rendered conversation. Text between two special tokens is tokenized as one, whatever segments it is made
 * of. A token is trained on where any of its bytes belongs to a trained segment: the rule of Transformers'
 * `return_assistant_tokens_mask`.
 */
export function encodeSegments(
  segments: readonly Segment[],
  encoder: TextEncoder,
  isTrained: (segment: Segment) => boolean,
): EncodedSegments {
  const specials = new Map(encoder.specialTokens.map((token) => [token.content, token]))
  const out: EncodedSegments = { ids: [], trained: [] }
  let section: Segment[] = []
  let previous: AddedToken | undefined
  const flush = (next?: AddedToken): void => {
    encodeSection(trimmed(section, previous?.rstrip === true, next?.lstrip === true), encoder, isTrained, out)
    section = []
  }
  for (const segment of segments) {
    if (!segment.control) {
      section.push(segment)
      continue
    }
    const token = specials.get(segment.text)
    if (token === undefined) {
      throw tokenizerError(`the vocabulary has no special token ${segment.text}, which the chat template writes`)
    }
    flush(token)
    out.ids.push(token.id)
    out.trained.push(isTrained(segment))
    previous = token
  }
  flush()
  return out
}

/** Some special tokens swallow the white space beside them (`lstrip`, `rstrip` in tokenizer.json). */
function trimmed(section: Segment[], start: boolean, end: boolean): Segment[] {
  if (!start && !end) return section
  const parts = section.map((segment) => ({ ...segment }))
  for (let i = 0; start && i < parts.length; i++) {
    parts[i].text = parts[i].text.trimStart()
    if (parts[i].text !== '') break
  }
  for (let i = parts.length - 1; end && i >= 0; i--) {
    parts[i].text = parts[i].text.trimEnd()
    if (parts[i].text !== '') break
  }
  return parts
}

function encodeSection(
  section: readonly Segment[],
  encoder: TextEncoder,
  isTrained: (segment: Segment) => boolean,
  out: EncodedSegments,
): void {
  const parts = section.filter((segment) => segment.text !== '')
  if (parts.length === 0) return
  const whole = encoder.normalize(parts.map((segment) => segment.text).join(''))
  const ids = encoder.encode(whole, out.ids.length === 0)
  const flags = parts.map(isTrained)
  const trained = flags.every((flag) => flag === flags[0])
    ? ids.map(() => flags[0])
    : alignedMask(ids, encoder, parts, flags, whole)
  for (let i = 0; i < ids.length; i++) {
    out.ids.push(ids[i])
    out.trained.push(trained[i])
  }
}

function alignedMask(
  ids: readonly number[],
  encoder: TextEncoder,
  parts: readonly Segment[],
  flags: readonly boolean[],
  whole: string,
): boolean[] {
  const ends: number[] = []
  let total = 0
  for (const part of parts) ends.push((total += Buffer.byteLength(encoder.normalize(part.text))))
  let at = firstByte(ids, encoder.bytes, Buffer.from(whole))
  let part = 0
  return ids.map((id) => {
    const end = at + encoder.bytes.of(id).length
    while (ends[part] <= at && part < parts.length - 1) part++
    let trained = false
    for (let p = part; p < parts.length && (p === part || ends[p - 1] < end); p++) trained ||= flags[p]
    at = end
    return trained
  })
}

/** 0, or -1 where the tokenizer put a space before the text. Anything else cannot be aligned, and must not be guessed. */
function firstByte(ids: readonly number[], bytes: TokenBytes, whole: Buffer): number {
  const written = Buffer.concat(ids.map((id) => bytes.of(id)))
  if (written.equals(whole)) return 0
  if (written[0] === 0x20 && written.subarray(1).equals(whole)) return -1
  throw tokenizerError(
    'its tokens do not spell the text that they came from, so they cannot be matched with it; ' +
      'use a chat template that puts special tokens around assistant turns',
  )
}
