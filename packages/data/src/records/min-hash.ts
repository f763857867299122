import type { PreferenceDraft, Turn } from '../conversation.js'

/** Bins per side of a conversation: 64 estimate a similarity of 0.8 to about 0.05. */
const BINS = 64
/** What was asked, then what was answered. Bytes of a signature. */
export const SIGNATURE_BYTES = 2 * BINS
/** Words in a row that count as one item. */
const SHINGLE = 3

const EMPTY = 0xffffffff

/**
 * A MinHash signature of the two sides of a conversation: the share of equal bytes estimates the Jaccard similarity of
 * their three-word shingles. One permutation hashing with optimal densification: one hash per shingle (Li, Owen and Zhang
 * 2012; Shrivastava 2017). Of each bin's minimum eight bits are kept, so that unlike texts agree in one byte of 256.
 *
 * The system prompt has no part in it: it is the same everywhere.
 */
export function signatureOf(turns: readonly Turn[]): Uint8Array {
  return signatureFrom([askedIn(turns)], [answeredIn(turns)])
}

/** Of a preference: the prompt, and both answers, of which it counts which is the better one. */
export function signatureOfPair({ prompt, chosen, rejected }: PreferenceDraft): Uint8Array {
  const texts = [chosen, rejected].map((turns) => `${answeredIn(turns)} ${askedIn(turns)}`)
  return signatureFrom([`${askedIn(prompt)} ${answeredIn(prompt)}`], texts)
}

function askedIn(turns: readonly Turn[]): string {
  return turns.flatMap((turn) => (turn.role === 'user' || turn.role === 'tool' ? [turn.content] : [])).join(' ')
}

function answeredIn(turns: readonly Turn[]): string {
  const texts = turns.flatMap((turn) =>
    turn.role === 'assistant'
      ? [turn.content, ...(turn.toolCalls ?? []).map((call) => JSON.stringify(call.arguments))]
      : [],
  )
  return texts.join(' ')
}

function signatureFrom(asked: readonly string[], answered: readonly string[]): Uint8Array {
  const signature = new Uint8Array(SIGNATURE_BYTES)
  signature.set(minHash(asked), 0)
  signature.set(minHash(answered), BINS)
  return signature
}

/** The estimated similarity (0 to 1) of the side of two conversations that is less alike. */
export function similarity(a: Uint8Array, b: Uint8Array): number {
  let asked = 0
  let answered = 0
  for (let i = 0; i < BINS; i++) {
    if (a[i] === b[i]) asked++
    if (a[BINS + i] === b[BINS + i]) answered++
  }
  return Math.min(asked, answered) / BINS
}

/** Of the shingles of all texts together; those of different texts are different. */
function minHash(texts: readonly string[]): Uint8Array {
  const minima = new Uint32Array(BINS).fill(EMPTY)
  texts.forEach((text, seed) => addShingles(text, seed, minima))
  if (minima.some((value) => value !== EMPTY)) fillEmptyBins(minima)
  return Uint8Array.from(minima, (value) => mixed(value) >>> 24)
}

function addShingles(text: string, seed: number, minima: Uint32Array): void {
  const words = wordHashes(text.normalize('NFC').toLowerCase())
  const last = Math.max(words.length - SHINGLE, 0)
  for (let i = 0; words.length > 0 && i <= last; i++) {
    let hash = seed
    for (let k = i; k < Math.min(i + SHINGLE, words.length); k++) hash = mixed(Math.imul(hash, 31) + words[k])
    const bin = hash >>> 26
    // One bit less than a bin holds, so that no value looks like an empty bin.
    const value = mixed(hash ^ 0x5bd1e995) >>> 1
    if (value < minima[bin]) minima[bin] = value
  }
}

/** An empty bin takes the value of one that is not, chosen by its own number, hence in the same way for every text. */
function fillEmptyBins(minima: Uint32Array): void {
  const found = minima.slice()
  for (let bin = 0; bin < BINS; bin++) {
    for (let attempt = 1; minima[bin] === EMPTY; attempt++) {
      minima[bin] = found[mixed(bin * 0x9e3779b1 + attempt) >>> 26]
    }
  }
}

/** One hash (FNV-1a) per run of letters and digits; characters beyond the basic plane count as such. */
function wordHashes(text: string): number[] {
  const hashes: number[] = []
  let hash = 0
  let isInside = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (isWordCharacter(code)) {
      hash = Math.imul((isInside ? hash : 0x811c9dc5) ^ code, 0x01000193)
      isInside = true
    } else if (isInside) {
      hashes.push(hash)
      isInside = false
    }
  }
  if (isInside) hashes.push(hash)
  return hashes
}

function isWordCharacter(code: number): boolean {
  if (code < 128) return (code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39)
  return (code >= 0xd800 && code <= 0xdfff) || /[\p{L}\p{N}]/u.test(String.fromCharCode(code))
}

/** MurmurHash3's last step. */
export function mixed(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
