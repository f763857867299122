import type { Backend, ConstantPacking, Executable, NamePrefixes, Program, Session } from '@mirastral/engine'
import { sizeOf } from '@mirastral/engine'
import { bindConstants, cachePrefix, cacheStates, outputEmbedding } from '@mirastral/models'
import { AdapterBank } from './adapter-bank.js'
import type { PlacedAdapter } from './adapter-bank.js'
import { decodeProgram } from './decode-program.js'
import type { DecoderModel, RunShape } from './decode-program.js'

/**
 * How the linear layers compute while an answer is written. `exact`: with the values that the model was loaded with.
 * `int8`, `int4`: rounded to so many bits, with a scale for each 32 elements (see the package's README for how far answers
 * differ); prompts are read exactly all the same. The output embedding is never below 8 bits.
 */
export type DecodingPrecision = 'exact' | 'int8' | 'int4'

export interface DecoderRequest {
  readonly backend: Backend
  readonly model: DecoderModel
  /** The greatest number of tokens of a sequence. */
  readonly contextLength: number
  /** Sequences that have a cache at once, and are decoded together; default 8. */
  readonly sequences?: number
  /** Default `exact`. */
  readonly precision?: DecodingPrecision
}

/** Tokens of a prompt that one run takes: a prompt is cut into the largest that fit, its rest is padded. */
const CHUNKS = [1, 8, 32, 128] as const
const LONGEST_CHUNK = 128

/** A sequence's next token, and where it stands. */
export interface Step {
  readonly slot: number
  readonly tokenId: number
  readonly position: number
}

/** The sequences on one device: keys and values of their tokens are kept, so that a further token costs one row of work. */
export class DeviceDecoder {
  readonly slots: number
  readonly adapters: AdapterBank
  /** Whether tokens that were decoded leave the same cache as tokens of a prompt do. */
  readonly decodesExactly: boolean
  /** By the shape of the adapter, then by the shape of the run. */
  readonly #executables = new Map<string, Map<string, Promise<Executable>>>()
  readonly #bound = new Set<string>()
  readonly #emptySlots: Set<number>
  readonly #capacity: number
  readonly #session: Session
  readonly #request: DecoderRequest

  private constructor(session: Session, request: DecoderRequest) {
    this.#session = session
    this.#request = request
    this.slots = request.sequences ?? 8
    this.adapters = new AdapterBank(session, (shape) => this.#release(shape))
    this.decodesExactly = (request.precision ?? 'exact') === 'exact'
    // A padded chunk writes past the last token.
    this.#capacity = request.contextLength + LONGEST_CHUNK
    // One more than there are, for the rows that fill up a batch.
    this.#emptySlots = new Set(Array.from({ length: this.slots + 1 }, (_, slot) => slot))
  }

  static async create(request: DecoderRequest): Promise<DeviceDecoder> {
    return new DeviceDecoder(await request.backend.createSession(), request)
  }

  /**
   * Reads as many of `ids` as one run takes, which stand at `position` and after. Gives their number, and the logits
   * f32 [vocabSize] of the token after the last of them.
   */
  async prefill(
    slot: number,
    { ids, position }: { readonly ids: Int32Array; readonly position: number },
    adapter: PlacedAdapter | null,
  ): Promise<{ count: number; logits: Float32Array }> {
    const tokens = CHUNKS.find((size) => size >= ids.length) ?? LONGEST_CHUNK
    const count = Math.min(tokens, ids.length)
    const padded = new Int32Array(tokens).fill(ids[count - 1])
    padded.set(ids.subarray(0, count))
    const logits = await this.#run({ sequences: 1, tokens }, 'exact', [slot], adapter, {
      ids: padded,
      positions: padded.map((_, i) => position + i),
      'length.0': Int32Array.of(position),
      ...(tokens === 1 ? {} : { rows: Int32Array.of(count - 1) }),
    })
    return { count, logits }
  }

  /** The logits f32 [vocabSize] after each step, in one run; at most `slots` steps, of different slots. */
  async step(steps: readonly Step[], adapter: PlacedAdapter | null): Promise<Float32Array[]> {
    const sequences = this.#batchOf(steps.length)
    const spare = { slot: this.slots, tokenId: 0, position: 0 }
    // Whoever asks first: a device may have recorded the run of these slots in this order.
    const ordered = [...steps].sort((a, b) => a.slot - b.slot)
    const rows = Array.from({ length: sequences }, (_, n) => ordered[n] ?? spare)
    const positions = Int32Array.from(rows, (row) => row.position)
    const lengths = rows.map((row, n) => [`length.${n}`, Int32Array.of(row.position)] as const)
    const slots = rows.map((row) => row.slot)
    const ids = Int32Array.from(rows, (row) => row.tokenId)
    const feeds = { ids, positions, ...Object.fromEntries(lengths) }
    const shape = { sequences, tokens: 1 }
    const logits = await this.#run(shape, this.#request.precision ?? 'exact', slots, adapter, feeds)
    const width = logits.length / sequences
    const places = steps.map((step) => ordered.indexOf(step))
    return places.map((n) => logits.subarray(n * width, (n + 1) * width))
  }

  /** Rounds the weights now, which takes its time, instead of when the first answer needs them. */
  async prepare(adapter: PlacedAdapter | null): Promise<void> {
    if (this.decodesExactly) return
    for (const sequences of new Set([1, this.slots])) {
      await this.#executable({ sequences, tokens: 1 }, this.#request.precision ?? 'exact', adapter)
    }
  }

  /** Programs that hold rounded weights of their own are few. */
  #batchOf(count: number): number {
    if (count === 1) return 1
    return this.decodesExactly ? Math.min(this.slots, 2 ** Math.ceil(Math.log2(count))) : this.slots
  }

  async #run(
    shape: RunShape,
    precision: DecodingPrecision,
    slots: readonly number[],
    adapter: PlacedAdapter | null,
    feeds: Readonly<Record<string, Int32Array>>,
  ): Promise<Float32Array> {
    const executable = await this.#executable(shape, precision, adapter)
    for (const slot of slots) await this.#fillSlot(slot)
    const caches = slots.map((slot, n) => [cachePrefix(n), slotPrefix(slot)] as const)
    const names: NamePrefixes = { ...Object.fromEntries(caches), ...this.adapters.names(adapter) }
    const { logits } = await executable.run(feeds, names)
    return logits as Float32Array
  }

  /** Gives a slot its memory when it is first needed. */
  async #fillSlot(slot: number): Promise<void> {
    if (!this.#emptySlots.delete(slot)) return
    for (const [name, type] of cacheStates(this.#request.model.config, this.#capacity)) {
      const own = slotPrefix(slot) + name.slice(cachePrefix(0).length)
      await this.#session.bind(own, { type, data: new Float32Array(sizeOf(type.shape)) }, { transfer: true })
    }
  }

  async #executable(shape: RunShape, precision: DecodingPrecision, adapter: PlacedAdapter | null): Promise<Executable> {
    const family = this.#executables.get(adapter?.shape ?? '') ?? new Map<string, Promise<Executable>>()
    this.#executables.set(adapter?.shape ?? '', family)
    const key = `${shape.sequences}x${shape.tokens} ${precision}`
    const known = family.get(key)
    if (known) return known
    const compiled = this.#compile(shape, precision, adapter)
    family.set(key, compiled)
    compiled.catch(() => family.delete(key))
    return compiled
  }

  /** Programs for an adapter that is gone would stay for ever otherwise. */
  async #release(adapterShape: string): Promise<void> {
    const family = this.#executables.get(adapterShape)
    this.#executables.delete(adapterShape)
    for (const compiled of family?.values() ?? []) await (await compiled).dispose()
  }

  async #compile(shape: RunShape, precision: DecodingPrecision, adapter: PlacedAdapter | null): Promise<Executable> {
    const { model } = this.#request
    const program = decodeProgram(model, adapter?.plan ?? null, { ...shape, capacity: this.#capacity })
    await bindConstants(this.#session, program, model, this.#bound)
    return this.#session.compile(
      program,
      precision === 'exact' ? {} : { prepackConstants: roundedWeights(program, model, precision) },
    )
  }

  async dispose(): Promise<void> {
    await this.#session.dispose()
  }
}

const slotPrefix = (slot: number): string => `slots/${slot}/`

/** The weights of all linear layers; what is no NF4 layer of an NF4 model, the output embedding, keeps 8 bits. */
function roundedWeights(
  program: Program,
  { architecture, config }: DecoderModel,
  precision: 'int8' | 'int4',
): Record<string, ConstantPacking> {
  const constants = new Set(program.inputs.flatMap(({ role, name }) => (role === 'constant' ? [name] : [])))
  const linear = architecture.parameters(config).filter(({ kind }) => kind === 'linear')
  const layers = linear.map(({ name }) => [`${name}.weight`, precision] as const)
  const all = [...layers, [outputEmbedding(config), 'int8'] as const]
  return Object.fromEntries(all.filter(([name]) => constants.has(name)))
}
