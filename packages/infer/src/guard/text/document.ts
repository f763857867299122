import type { Span } from '../types.js'
import { foldText } from './fold.js'
import type { FoldedText } from './fold.js'
import { cutGlued, repairWord } from './repair.js'
import type { Spelling } from './repair.js'
import { scan } from './scan.js'
import type { RawToken } from './scan.js'

export interface Token {
  /** The word that was meant: lower case, repaired, contractions opened. */
  readonly word: string
  /** Where it stands in the original text. */
  readonly span: Span
  /** A comma or its like stands before it. */
  readonly afterPause: boolean
  readonly quoted: boolean
}

export interface Sentence {
  readonly tokens: readonly Token[]
  readonly question: boolean
}

export interface TextDocument {
  readonly sentences: readonly Sentence[]
  /** Whether some of the text stands in quotation marks. */
  readonly hasQuotation: boolean
}

interface Piece {
  readonly words: readonly string[]
  readonly start: number
  readonly end: number
}

/** Text as sentences of the words that were meant, each with its place in the original. */
export function readDocument(text: string, spelling: Spelling, emoji: ReadonlyMap<string, string>): TextDocument {
  const folded = foldText(text, emoji)
  const raw = scan(folded.text)
  const quoted = quotedTokens(raw)
  const sentences: Sentence[] = []
  let tokens: Token[] = []
  let afterPause = false
  const close = (question: boolean): void => {
    if (tokens.length > 0) sentences.push({ tokens, question })
    tokens = []
    afterPause = false
  }
  for (let i = 0; i < raw.length;) {
    const token = raw[i]
    if (!token) break
    if (token.kind === 'stop') close(token.question === true)
    else if (token.kind === 'pause' || token.kind === 'quote') afterPause = true
    const run = token.kind === 'word' ? readWords(raw, i, spelling) : { pieces: [], next: i + 1 }
    for (const piece of run.pieces) {
      for (const word of piece.words) {
        tokens.push({ word, span: originalSpan(folded, piece), afterPause, quoted: quoted.has(i) })
        afterPause = false
      }
    }
    i = run.next
  }
  close(false)
  return { sentences, hasQuotation: quoted.size > 0 }
}

function originalSpan(folded: FoldedText, piece: Piece): Span {
  const start = folded.origin[piece.start] ?? 0
  const last = folded.origin[piece.end - 1] ?? start
  let next = piece.end
  while (next < folded.origin.length && (folded.origin[next] ?? 0) <= last) next += 1
  return { start, end: folded.origin[next] ?? last + 1 }
}

/** The word at `at`, or the run of single letters, or the two halves of a divided word, that begins there. */
function readWords(raw: readonly RawToken[], at: number, spelling: Spelling): { pieces: Piece[]; next: number } {
  const token = raw[at]
  if (!token) return { pieces: [], next: at + 1 }
  const spelled = readSpelled(raw, at, spelling)
  if (spelled) return spelled
  const following = raw[at + 1]
  if (following?.kind === 'word' && !spelling.expansions.has(token.text)) {
    const joined = joinDivided(token, following, spelling)
    if (joined) return { pieces: [{ words: joined, start: token.start, end: following.end }], next: at + 2 }
  }
  return { pieces: [{ words: repairWord(token.text, spelling), start: token.start, end: token.end }], next: at + 1 }
}

/** "k i l l", "d.i.e": three or more single characters are the letters of one word, or of several. */
function readSpelled(
  raw: readonly RawToken[],
  at: number,
  spelling: Spelling,
): { pieces: Piece[]; next: number } | undefined {
  const letters: RawToken[] = []
  let next = at
  for (let i = at; i < raw.length; i += 1) {
    const token = raw[i]
    if (token?.kind === 'word' && token.text.length === 1) {
      letters.push(token)
      next = i + 1
    } else if (token?.kind === 'word' || token?.text.length !== 1 || token.text === '\n') break
  }
  const [first] = letters
  const last = letters.at(-1)
  if (letters.length < 3 || !first || !last) return undefined
  const glued = letters.map((t) => t.text).join('')
  const decoded = spelling.targets.includes(glued)
    ? [glued]
    : (cutGlued(glued, spelling) ?? known(repairWord(glued, spelling), spelling))
  if (!decoded) return undefined
  return { pieces: [{ words: decoded, start: first.start, end: last.end }], next }
}

function known(words: readonly string[], spelling: Spelling): readonly string[] | undefined {
  return words.every((w) => spelling.targets.includes(w) || (w.length >= 3 && spelling.glue.has(w))) ? words : undefined
}

/** "my self", "sui cide", "self-harm" stays two words: only halves that are no words themselves are joined. */
function joinDivided(first: RawToken, second: RawToken, spelling: Spelling): readonly string[] | undefined {
  const pair = spelling.expansions.get(`${first.text} ${second.text}`)
  if (pair) return pair
  const joined = first.text + second.text
  const oneIsNoWord = !spelling.known.has(first.text) || !spelling.known.has(second.text)
  return oneIsNoWord && joined.length >= 6 && spelling.wideTargets.has(joined) ? [joined] : undefined
}

/** Indices of the tokens between quotation marks. An opening mark without its partner quotes nothing. */
function quotedTokens(raw: readonly RawToken[]): Set<number> {
  const quoted = new Set<number>()
  let open: { mark: string; at: number } | undefined
  raw.forEach((token, i) => {
    if (token.kind !== 'quote') return
    if (open?.mark === token.text && !(token.text === "'" && token.opens)) {
      for (let k = open.at + 1; k < i; k += 1) quoted.add(k)
      open = undefined
    } else if (token.text === '"' || token.opens) open ??= { mark: token.text, at: i }
  })
  return quoted
}
