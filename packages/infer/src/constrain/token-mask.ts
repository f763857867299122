import { InferError } from '../errors.js'
import type { TokenBytes } from '../token-bytes.js'
import { Automaton } from './automaton.js'
import type { State } from './automaton.js'
import type { GrammarProgram } from './program.js'

/** A tree of the byte strings of all tokens, its nodes in depth-first order. Node 0 is the root. */
export interface TokenTrie {
  readonly vocabSize: number
  readonly byte: Uint8Array
  readonly depth: Uint16Array
  /** The first node after a node's subtree. */
  readonly end: Uint32Array
  /** The lowest id of the tokens that end at a node, -1 if none does. */
  readonly token: Int32Array
  /** The next token with the same bytes as a token, -1 if there is none. */
  readonly nextSame: Int32Array
}

/** Built once for a tokenizer. Tokens without text never appear in it. */
export function buildTokenTrie(tokenBytes: TokenBytes, vocabSize: number): TokenTrie {
  const ids = Array.from({ length: Math.min(vocabSize, tokenBytes.bytes.length) }, (_, id) => id)
  const bytesOf = (id: number): Uint8Array => tokenBytes.bytes[id] ?? new Uint8Array()
  const sorted = ids
    .filter((id) => bytesOf(id).length > 0)
    .sort((a, b) => Buffer.compare(bytesOf(a), bytesOf(b)) || a - b)

  const nodes: { byte: number; depth: number; end: number; token: number }[] = [
    { byte: 0, depth: 0, end: 0, token: -1 },
  ]
  const nextSame = new Int32Array(vocabSize).fill(-1)
  let path = [0]
  let last = -1
  for (const id of sorted) {
    const bytes = bytesOf(id)
    let shared = 0
    while (shared < bytes.length && shared + 1 < path.length && nodes[path[shared + 1]].byte === bytes[shared]) shared++
    for (const closed of path.slice(shared + 1)) nodes[closed].end = nodes.length
    path = path.slice(0, shared + 1)
    if (shared === bytes.length) {
      nextSame[last] = id
    } else {
      for (const [i, byte] of Array.from(bytes).entries()) {
        if (i >= shared) path.push(nodes.push({ byte, depth: i + 1, end: 0, token: -1 }) - 1)
      }
      nodes[path[path.length - 1]].token = id
    }
    last = id
  }
  for (const open of path) nodes[open].end = nodes.length
  return {
    vocabSize,
    byte: Uint8Array.from(nodes, (n) => n.byte),
    depth: Uint16Array.from(nodes, (n) => n.depth),
    end: Uint32Array.from(nodes, (n) => n.end),
    token: Int32Array.from(nodes, (n) => n.token),
    nextSame,
  }
}

/** Masks that are kept before they are dropped: 4 KiB each for a vocabulary of 32768. */
const maxMasks = 1024

/** A grammar over the tokens of one tokenizer, shared by all answers that follow it. */
export class TokenConstraint {
  readonly #trie: TokenTrie
  readonly #tokenBytes: TokenBytes
  readonly #endTokens: ReadonlySet<number>
  readonly #automaton: Automaton
  #masks = new WeakMap<State, Uint32Array>()
  #maskCount = 0

  /** `endTokens` are allowed where the text may end. */
  constructor(program: GrammarProgram, trie: TokenTrie, tokenBytes: TokenBytes, endTokens: Iterable<number>) {
    this.#trie = trie
    this.#tokenBytes = tokenBytes
    this.#endTokens = new Set(endTokens)
    this.#automaton = new Automaton(program)
  }

  /** The beginning of one answer. */
  begin(): TokenMask {
    return new TokenMask(this)
  }

  startState(): State {
    return this.#automaton.start()
  }

  /** A bit for each token id that may come next, and the state to go on with. */
  allowed(from: State): { mask: Uint32Array; state: State } {
    const known = this.#masks.get(from)
    if (known !== undefined) return { mask: known, state: from }
    const state = this.#automaton.rest(from)
    const mask = new Uint32Array(Math.ceil(this.#trie.vocabSize / 32))
    this.#collect(state, mask)
    if (state.accepting) for (const id of this.#endTokens) mask[id >> 5] |= 1 << (id & 31)
    if (++this.#maskCount > maxMasks) {
      this.#masks = new WeakMap()
      this.#maskCount = 0
    }
    this.#masks.set(state, mask)
    return { mask, state }
  }

  /** The state after a token; an end token changes nothing. Throws when the grammar does not allow the token. */
  advance(from: State, tokenId: number): State {
    if (this.#endTokens.has(tokenId)) return from
    let state: State | null = from
    for (const byte of this.#tokenBytes.bytes[tokenId] ?? []) {
      state = this.#automaton.step(state, byte)
      if (state !== null) continue
      const message = `internal: TokenConstraint: token ${tokenId} was not allowed here`
      throw new InferError('MIRASTRAL_INFER_GENERATION', message, { exitCode: 1 })
    }
    return state
  }

  #collect(state: State, mask: Uint32Array): void {
    const { byte, depth, end, token, nextSame } = this.#trie
    const path: State[] = [state]
    for (let node = 1; node < byte.length;) {
      const from = path[depth[node] - 1]
      const next = from.next[byte[node]] ?? this.#automaton.step(from, byte[node])
      if (next === null) {
        node = end[node]
        continue
      }
      path[depth[node]] = next
      for (let id = token[node]; id !== -1; id = nextSame[id]) mask[id >> 5] |= 1 << (id & 31)
      node++
    }
  }
}

/** The tokens that may come next while one answer is generated. */
export class TokenMask {
  readonly #constraint: TokenConstraint
  #state: State

  constructor(constraint: TokenConstraint) {
    this.#constraint = constraint
    this.#state = constraint.startState()
  }

  /** A bit for each token id that may come next: bit `id & 31` of word `id >> 5`. */
  allowed(): Uint32Array {
    const { mask, state } = this.#constraint.allowed(this.#state)
    this.#state = state
    return mask
  }

  /** Goes on after a token that `allowed` allowed. */
  accept(tokenId: number): void {
    this.#state = this.#constraint.advance(this.#state, tokenId)
  }

  /** Whether the text so far may end here. */
  get complete(): boolean {
    return this.#state.accepting
  }
}
