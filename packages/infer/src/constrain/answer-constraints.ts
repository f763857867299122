import { InferError } from '../errors.js'
import type { ChatRequest } from '../text-generator.js'
import type { TokenBytes } from '../token-bytes.js'
import type { GrammarRules } from './grammar.js'
import { jsonSchemaGrammar } from './json-schema.js'
import { compileGrammar } from './program.js'
import { TokenConstraint, buildTokenTrie } from './token-mask.js'
import type { TokenMask, TokenTrie } from './token-mask.js'
import { toolCallsGrammar } from './tool-call-grammar.js'

/** Compiled schemas that are kept, so that a client's every request does not compile its schema anew. */
const maxKept = 16

/** The constraints of one tokenizer's answers. */
export class AnswerConstraints {
  readonly #tokenBytes: TokenBytes
  readonly #vocabSize: number
  readonly #endTokens: ReadonlySet<number>
  readonly #kept = new Map<string, TokenConstraint>()
  #trie: TokenTrie | undefined

  constructor(tokenBytes: TokenBytes, vocabSize: number, endTokens: ReadonlySet<number>) {
    this.#tokenBytes = tokenBytes
    this.#vocabSize = vocabSize
    this.#endTokens = endTokens
  }

  /** Answers that are JSON under the schema. Throws `InferError` for a schema that cannot be enforced. */
  forJsonSchema(schema: Record<string, unknown>): TokenMask {
    return this.#constraint(JSON.stringify(schema), () => jsonSchemaGrammar(schema)).begin()
  }

  /** Answers that call one of the tools, or the one that `toolChoice` names. */
  forToolCalls(request: ChatRequest, marker: 'control' | 'text'): TokenMask {
    const { tools = [], toolChoice, parallelToolCalls = true } = request
    const named = typeof toolChoice === 'object' ? tools.filter(({ name }) => name === toolChoice.name) : tools
    if (named.length === 0) {
      throw new InferError('MIRASTRAL_INFER_OPTION', 'generate: toolChoice must name one of the given tools')
    }
    const maxCalls = parallelToolCalls ? 8 : 1
    const key = JSON.stringify([named.map(({ name, parameters }) => [name, parameters]), maxCalls, marker])
    return this.#constraint(key, () => toolCallsGrammar(named, { maxCalls, marker })).begin()
  }

  #constraint(key: string, grammar: () => GrammarRules): TokenConstraint {
    const known = this.#kept.get(key)
    this.#kept.delete(key)
    const constraint = known ?? this.#compile(grammar())
    this.#kept.set(key, constraint)
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > maxKept && oldest !== undefined) this.#kept.delete(oldest)
    return constraint
  }

  #compile(grammar: GrammarRules): TokenConstraint {
    const program = compileGrammar(grammar)
    this.#trie ??= buildTokenTrie(this.#tokenBytes, this.#vocabSize)
    return new TokenConstraint(program, this.#trie, this.#tokenBytes, this.#endTokens)
  }
}
