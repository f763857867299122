import { IGNORE_INDEX } from '../conversation.js'
import type { TokenizedExample } from '../conversation.js'
import type { Segment } from './segments.js'
import type { TextEncoder } from './text-encoder.js'
import type { TokenBytes } from './token-bytes.js'
import { tokenizerError } from './tokenizer-files.js'
import type { AddedToken } from './tokenizer-files.js'

/** Some tokens in a row, and whether they are trained on: all, none, or each as its flag says. */
interface Part {
  ids: Int32Array
  trained: boolean | readonly boolean[]
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
): TokenizedExample {
  const parts: Part[] = []
  let section: Segment[] = []
  let previous: AddedToken | undefined
  const endSection = (next?: AddedToken): void => {
    const written = trimmed(section, previous?.rstrip === true, next?.lstrip === true).filter(({ text }) => text !== '')
    if (written.length > 0) parts.push(encodeSection(written, encoder, isTrained, parts.length === 0))
    section = []
  }
  for (const segment of segments) {
    if (!segment.control) {
      section.push(segment)
      continue
    }
    const token = encoder.special(segment.text)
    if (token === undefined) {
      throw tokenizerError(`the vocabulary has no special token ${segment.text}, which the chat template writes`)
    }
    endSection(token)
    parts.push({ ids: Int32Array.of(token.id), trained: isTrained(segment) })
    previous = token
  }
  endSection()
  return joined(parts)
}

function joined(parts: readonly Part[]): TokenizedExample {
  const length = parts.reduce((sum, { ids }) => sum + ids.length, 0)
  const inputIds = new Int32Array(length)
  const labels = new Int32Array(length).fill(IGNORE_INDEX)
  let at = 0
  for (const { ids, trained } of parts) {
    inputIds.set(ids, at)
    if (trained === true) labels.set(ids, at)
    else if (trained !== false) trained.forEach((flag, i) => (labels[at + i] = flag ? ids[i] : IGNORE_INDEX))
    at += ids.length
  }
  return { inputIds, labels }
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
  isFirst: boolean,
): Part {
  const whole = encoder.normalize(section.length === 1 ? section[0].text : section.map(({ text }) => text).join(''))
  const ids = encoder.encode(whole, isFirst)
  const flags = section.map(isTrained)
  const isUniform = flags.every((flag) => flag === flags[0])
  return { ids, trained: isUniform ? flags[0] : alignedMask(ids, encoder, section, flags, whole) }
}

function alignedMask(
  ids: Int32Array,
  encoder: TextEncoder,
  section: readonly Segment[],
  flags: readonly boolean[],
  whole: string,
): boolean[] {
  const ends: number[] = []
  let total = 0
  for (const { text } of section) ends.push((total += Buffer.byteLength(encoder.normalize(text))))
  let at = firstByte(ids, encoder.bytes, Buffer.from(whole))
  let part = 0
  return Array.from(ids, (id) => {
    const end = at + encoder.bytes.of(id).length
    while (ends[part] <= at && part < section.length - 1) part++
    let trained = false
    for (let p = part; p < section.length && (p === part || ends[p - 1] < end); p++) trained ||= flags[p]
    at = end
    return trained
  })
}

/** 0, or -1 where the tokenizer put a space before the text. Anything else cannot be aligned, and must not be guessed. */
function firstByte(ids: Int32Array, bytes: TokenBytes, whole: Buffer): number {
  const written = Buffer.concat(Array.from(ids, (id) => bytes.of(id)))
  if (written.equals(whole)) return 0
  if (written[0] === 0x20 && written.subarray(1).equals(whole)) return -1
  throw tokenizerError(
    'its tokens do not spell the text that they came from, so they cannot be matched with it; ' +
      'use a chat template that puts special tokens around assistant turns',
  )
}
