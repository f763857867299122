import { InferError } from '../../errors.js'

/**
 * The language in which the guard's rules are written. A pattern is a sequence of:
 *   word      the word itself
 *   ~verb     any inflected form of the verb
 *   @NAME     a named list of patterns (the vocabulary)
 *   (a|b c)   one of several sequences
 *   x?        x or nothing
 *   ..3       up to three words of any kind, not crossing a word that turns the sentence ("but")
 *   #, ##     a number, a number of at least two digits
 *   <  >      the first word of a clause begins here; the last word of a clause ended here
 *   !x        x does not follow
 */
export type PatternNode =
  | { readonly kind: 'words'; readonly words: ReadonlySet<string> }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'sequence'; readonly items: readonly PatternNode[] }
  | { readonly kind: 'choice'; readonly options: readonly PatternNode[] }
  | { readonly kind: 'optional'; readonly item: PatternNode }
  | { readonly kind: 'gap'; readonly most: number }
  | { readonly kind: 'number'; readonly digits: number }
  | { readonly kind: 'clauseStart' }
  | { readonly kind: 'clauseEnd' }
  | { readonly kind: 'not'; readonly item: PatternNode }

/** Forms of a verb, given by the language. */
export type Inflect = (verb: string) => readonly string[]

const lexeme = /\.\.\d+|[()|?<>!]|#+|@[A-Z][A-Z0-9_]*|~[a-z]+|[\p{L}\p{N}']+/gu

/** @throws InferError MIRASTRAL_INFER_GUARD if the pattern is not of the language above. */
export function parsePattern(source: string, inflect: Inflect): PatternNode {
  const lexemes = [...source.matchAll(lexeme)].map((m) => m[0])
  const left = source.replace(lexeme, '').trim()
  if (left !== '') throw patternError(source, `unknown characters ${JSON.stringify(left)}`)
  const state = { lexemes, at: 0, source, inflect }
  const node = parseSequence(state)
  if (state.at < lexemes.length) throw patternError(source, `unexpected "${lexemes[state.at]}"`)
  return node
}

interface ParseState {
  readonly lexemes: readonly string[]
  at: number
  readonly source: string
  readonly inflect: Inflect
}

function parseSequence(state: ParseState): PatternNode {
  const items: PatternNode[] = []
  for (;;) {
    const next = state.lexemes[state.at]
    if (next === undefined || next === '|' || next === ')') break
    items.push(parseItem(state))
  }
  const [only] = items
  if (only === undefined) throw patternError(state.source, 'an empty sequence')
  return items.length === 1 ? only : { kind: 'sequence', items }
}

function parseItem(state: ParseState): PatternNode {
  const atom = parseAtom(state)
  if (state.lexemes[state.at] !== '?') return atom
  state.at += 1
  return { kind: 'optional', item: atom }
}

function parseAtom(state: ParseState): PatternNode {
  const token = state.lexemes[state.at] ?? ''
  state.at += 1
  if (token === '(') return parseChoice(state)
  if (token === '!') return { kind: 'not', item: parseAtom(state) }
  if (token.startsWith('#')) return { kind: 'number', digits: token.length }
  if (token === '<') return { kind: 'clauseStart' }
  if (token === '>') return { kind: 'clauseEnd' }
  if (token.startsWith('..')) return { kind: 'gap', most: Number(token.slice(2)) }
  if (token.startsWith('@')) return { kind: 'name', name: token.slice(1) }
  if (token.startsWith('~')) return { kind: 'words', words: new Set(state.inflect(token.slice(1))) }
  if (/^[\p{L}\p{N}']/u.test(token)) return { kind: 'words', words: new Set([token]) }
  throw patternError(state.source, `unexpected "${token}"`)
}

function parseChoice(state: ParseState): PatternNode {
  const options = [parseSequence(state)]
  while (state.lexemes[state.at] === '|') {
    state.at += 1
    options.push(parseSequence(state))
  }
  if (state.lexemes[state.at] !== ')') throw patternError(state.source, 'a "(" without its ")"')
  state.at += 1
  return mergeWords(options)
}

/** (a|b|c) of single words is one set: matching it is one look-up. */
function mergeWords(options: readonly PatternNode[]): PatternNode {
  const words = options.flatMap((o) => (o.kind === 'words' ? [...o.words] : []))
  const rest = options.filter((o) => o.kind !== 'words')
  if (words.length === 0) return { kind: 'choice', options: rest }
  const set: PatternNode = { kind: 'words', words: new Set(words) }
  return rest.length === 0 ? set : { kind: 'choice', options: [set, ...rest] }
}

export function patternError(source: string, problem: string): InferError {
  return new InferError('MIRASTRAL_INFER_GUARD', `guard: pattern "${source}": ${problem}`)
}

/** Every literal word of a pattern: what the typo repair must take for known. */
export const patternWords = (node: PatternNode): string[] =>
  collect(node, (leaf) => (leaf.kind === 'words' ? [...leaf.words] : []))

/** The names that a pattern refers to. */
export const patternNames = (node: PatternNode): string[] =>
  collect(node, (leaf) => (leaf.kind === 'name' ? [leaf.name] : []))

/** What `of` finds in the nodes that hold no other nodes, in their order. */
function collect(node: PatternNode, of: (leaf: PatternNode) => string[]): string[] {
  switch (node.kind) {
    case 'sequence':
      return node.items.flatMap((item) => collect(item, of))
    case 'choice':
      return node.options.flatMap((option) => collect(option, of))
    case 'optional':
    case 'not':
      return collect(node.item, of)
    case 'words':
    case 'name':
    case 'gap':
    case 'number':
    case 'clauseStart':
    case 'clauseEnd':
      return of(node)
  }
}
