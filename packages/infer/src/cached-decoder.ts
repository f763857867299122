import type { Backend, Executable, Program, Session, Value } from '@mirastral/engine'
import { embedding, f32, Graph, i32, linear, reshape, sizeOf } from '@mirastral/engine'
import type { AdapterTensors, LoraPlan } from '@mirastral/lora'
import { adapterName, subtractedName, withLora } from '@mirastral/lora'
import type { Architecture, ForwardContext, ModelConfig, Weights } from '@mirastral/models'
import { bindConstants, cacheStates, forwardContext, outputEmbedding } from '@mirastral/models'

export interface DecoderModel {
  readonly architecture: Architecture
  readonly config: ModelConfig
  readonly weights: Weights
}

export interface DecoderAdapter {
  readonly plan: LoraPlan
  readonly tensors: AdapterTensors
  /** What PiSSA and OLoRA took off the base; empty otherwise. */
  readonly subtracted?: AdapterTensors
}

export interface DecoderRequest {
  readonly backend: Backend
  readonly model: DecoderModel
  readonly adapter?: DecoderAdapter | null
  /** The greatest number of tokens of a sequence. */
  readonly contextLength: number
}

/** Tokens that one run of a program takes: a prompt is cut into the largest that fit, its rest is padded. */
const CHUNKS = [1, 8, 32, 128] as const

/**
 * One sequence on a device: keys and values of its tokens are kept, so that each further token costs one row of work.
 * Tokens that a new sequence shares with the last one from the beginning are not computed again.
 */
export class CachedDecoder {
  private readonly executables = new Map<number, Executable>()
  private readonly bound = new Set<string>()
  private readonly capacity: number
  private tokens: number[] = []

  private constructor(
    private readonly session: Session,
    private readonly request: DecoderRequest,
  ) {
    // A padded chunk writes past the last token.
    this.capacity = request.contextLength + CHUNKS[CHUNKS.length - 1]
  }

  static async create(request: DecoderRequest): Promise<CachedDecoder> {
    const session = await request.backend.createSession()
    const decoder = new CachedDecoder(session, request)
    await decoder.bindStates()
    return decoder
  }

  private async bindStates(): Promise<void> {
    for (const [name, type] of cacheStates(this.request.model.config, 1, this.capacity)) {
      await this.session.bind(name, { type, data: new Float32Array(sizeOf(type.shape)) }, { transfer: true })
    }
    const { adapter } = this.request
    for (const [key, { shape, data }] of adapter?.tensors ?? []) {
      await this.session.bind(adapterName(key), { type: f32(...shape), data })
    }
    for (const [key, { shape, data }] of adapter?.subtracted ?? []) {
      await this.session.bind(subtractedName(key), { type: f32(...shape), data })
    }
  }

  /** How many tokens of `ids` are in the cache already, from the beginning. */
  private shared(ids: ArrayLike<number>): number {
    let count = 0
    while (count < ids.length && count < this.tokens.length && ids[count] === this.tokens[count]) count++
    return count
  }

  /**
   * The logits f32[vocabSize] of the token after `ids`, a whole sequence of at most `contextLength` tokens. Call it with the
   * sequence and each time one token more. `signal` is looked at between chunks.
   */
  async logits(ids: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array> {
    // The last token is always computed: its logits are not kept.
    let position = Math.min(this.shared(ids), ids.length - 1)
    this.tokens = Array.from(ids).slice(0, position)
    for (;;) {
      signal?.throwIfAborted()
      const left = ids.length - position
      const chunk = CHUNKS.find((size) => size >= left) ?? CHUNKS[CHUNKS.length - 1]
      const count = Math.min(chunk, left)
      const logits = await this.runChunk(chunk, Array.from(ids).slice(position, position + count), position)
      for (let i = 0; i < count; i++) this.tokens.push(ids[position + i])
      position += count
      if (position === ids.length) return logits
    }
  }

  private async runChunk(chunk: number, ids: readonly number[], start: number): Promise<Float32Array> {
    const executable = await this.executable(chunk)
    const { logits } = await executable.run({
      ids: Int32Array.from({ length: chunk }, (_, i) => ids[Math.min(i, ids.length - 1)]),
      positions: Int32Array.from({ length: chunk }, (_, i) => start + i),
      lengths: Int32Array.of(start),
      last: Int32Array.of(ids.length - 1),
    })
    return logits as Float32Array
  }

  private async executable(chunk: number): Promise<Executable> {
    const known = this.executables.get(chunk)
    if (known) return known
    const program = this.program(chunk)
    await bindConstants(this.session, program, this.request.model, this.bound)
    const executable = await this.session.compile(program, { prepackConstants: chunk === 1 })
    this.executables.set(chunk, executable)
    return executable
  }

  private program(chunk: number): Program {
    const { model, adapter } = this.request
    const g = new Graph(`decode ${chunk}`)
    const plain = forwardContext(g, model.weights.types)
    const ctx: ForwardContext = adapter ? withLora(plain, adapter.plan) : plain
    const hidden = model.architecture.forward(ctx, model.config, {
      ids: g.input('ids', i32(1, chunk)),
      positions: g.input('positions', i32(1, chunk)),
      maxPositions: this.capacity,
      cache: { capacity: this.capacity, lengths: g.input('lengths', i32(1)) },
    })
    const row = lastRow(hidden, g.input('last', i32(1)))
    g.output('logits', linear(row, ctx.parameter(outputEmbedding(model.config))))
    return g.build()
  }

  async dispose(): Promise<void> {
    await this.session.dispose()
  }
}

/** Row `index` (i32[1]) of hidden [1, tokens, width]. */
function lastRow(hidden: Value, index: Value): Value {
  const [, tokens, width] = hidden.shape
  return embedding(reshape(hidden, [tokens, width]), index)
}
