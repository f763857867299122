import type { Decoding } from '../token-generator.js'
import type { PlacedAdapter } from './adapter-bank.js'
import type { DeviceDecoder } from './device-decoder.js'
import { sharedTokens, SlotPool } from './slot-pool.js'
import type { Slot } from './slot-pool.js'

/** A text that is being continued. */
interface Sequence {
  readonly slot: Slot
  readonly adapter: PlacedAdapter | null
  readonly promptLength: number
  open: boolean
  /** Whether the others wait for it. False while nobody asks for its next token, as with a slow reader. */
  awaited: boolean
}

/** A prompt of which a part is not read yet. */
interface Prefill {
  readonly sequence: Sequence
  readonly ids: Int32Array
  readonly signal: AbortSignal | undefined
  readonly resolve: (logits: Float32Array) => void
  readonly reject: (error: unknown) => void
}

interface PendingStep {
  readonly sequence: Sequence
  readonly tokenId: number
  readonly resolve: (logits: Float32Array) => void
  readonly reject: (error: unknown) => void
}

/** Of the time that a step takes, how long the device waits for the others so that they can be computed with it. */
const WAIT_SHARE = 0.25
const MOST_WAIT_MS = 20

/**
 * Continues several texts at once: their next tokens are computed in one run, prompts are read in between, a part at a
 * time. A text may begin, end or be given up at any moment; what the others get does not depend on it.
 */
export class DecodeScheduler {
  readonly #decoder: DeviceDecoder
  readonly #pool: SlotPool
  readonly #prefills: Prefill[] = []
  readonly #steps: PendingStep[] = []
  readonly #sequences = new Set<Sequence>()
  #running: Promise<void> | null = null
  #stepMs = 0
  /** Called whenever a step is asked for or a sequence ends. */
  #changed: () => void = () => undefined

  constructor(decoder: DeviceDecoder) {
    this.#decoder = decoder
    this.#pool = new SlotPool(decoder.slots)
  }

  /** Texts that have a place on the device, and those that wait for one. */
  get load(): { readonly active: number; readonly waiting: number } {
    return { active: this.#decoder.slots - this.#pool.free, waiting: this.#pool.waiting }
  }

  /** Reads a prompt when there is a place for it. Throws the signal's reason when it aborts, between the parts of a prompt. */
  async begin(ids: Int32Array, adapter: PlacedAdapter | null, signal?: AbortSignal): Promise<Decoding> {
    const slot = await this.#pool.take(ids, adapter, signal)
    // The last token is always computed: its logits are not kept.
    slot.tokens = Array.from(ids.subarray(0, Math.min(sharedTokens(slot.tokens, ids), ids.length - 1)))
    const sequence: Sequence = { slot, adapter, promptLength: ids.length, open: true, awaited: false }
    const close = (): void => this.#close(sequence)
    try {
      const logits = await new Promise<Float32Array>((resolve, reject) => {
        this.#prefills.push({ sequence, ids, signal, resolve, reject })
        this.#start()
      })
      sequence.awaited = true
      this.#sequences.add(sequence)
      return { logits, append: (tokenId) => this.#append(sequence, tokenId), close }
    } catch (error) {
      close()
      throw error
    }
  }

  /** Forgets what was computed with an adapter, which no text uses any more. */
  forget(adapter: PlacedAdapter): void {
    this.#pool.forget(adapter)
  }

  /** Resolves when the device is at rest. */
  async settle(): Promise<void> {
    await this.#running
  }

  #append(sequence: Sequence, tokenId: number): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      sequence.awaited = true
      this.#steps.push({ sequence, tokenId, resolve, reject })
      this.#changed()
      this.#start()
    })
  }

  #close(sequence: Sequence): void {
    if (!sequence.open) return
    sequence.open = false
    this.#sequences.delete(sequence)
    const pending = this.#steps.findIndex((step) => step.sequence === sequence)
    if (pending !== -1) this.#steps.splice(pending, 1)[0].reject(new Error('internal: the text was closed'))
    const { slot, promptLength } = sequence
    // What was decoded with rounded weights is not what reading it would give, so it is read when it comes again.
    if (!this.#decoder.decodesExactly) slot.tokens.length = Math.min(slot.tokens.length, promptLength)
    this.#pool.give(slot)
    this.#changed()
  }

  #start(): void {
    this.#running ??= this.#work().finally(() => {
      this.#running = null
      if (this.#steps.length + this.#prefills.length > 0) this.#start()
    })
  }

  async #work(): Promise<void> {
    while (this.#steps.length + this.#prefills.length > 0) {
      if (this.#steps.length > 0) await this.#stepAll()
      const [prefill] = this.#prefills
      if (prefill !== undefined) await this.#readPart(prefill)
    }
  }

  /** Reads a part of the prompt; one that is not through goes to the end of the queue. */
  async #readPart(prefill: Prefill): Promise<void> {
    this.#prefills.shift()
    const { sequence, ids, signal } = prefill
    const { slot, adapter } = sequence
    try {
      signal?.throwIfAborted()
      const position = slot.tokens.length
      const { count, logits } = await this.#decoder.prefill(
        slot.index,
        { ids: ids.subarray(position), position },
        adapter,
      )
      for (const id of ids.subarray(position, position + count)) slot.tokens.push(id)
      signal?.throwIfAborted()
      if (slot.tokens.length < ids.length) this.#prefills.push(prefill)
      else prefill.resolve(logits)
    } catch (error) {
      prefill.reject(error)
    }
  }

  /** One token further for every text that asks for one; those with the same adapter in one run. */
  async #stepAll(): Promise<void> {
    await this.#gather()
    const steps = this.#steps.splice(0)
    for (const { sequence } of steps) sequence.awaited = true
    for (const sequence of this.#sequences) sequence.awaited &&= steps.some((step) => step.sequence === sequence)
    for (const group of byAdapter(steps)) await this.#stepGroup(group)
  }

  async #stepGroup(group: readonly PendingStep[]): Promise<void> {
    const began = performance.now()
    const [{ sequence: first }] = group
    const rows = group.map(({ sequence: { slot }, tokenId }) => ({
      slot: slot.index,
      tokenId,
      position: slot.tokens.length,
    }))
    try {
      const logits = await this.#decoder.step(rows, first.adapter)
      group.forEach(({ sequence, tokenId, resolve }, n) => {
        if (sequence.open) sequence.slot.tokens.push(tokenId)
        resolve(logits[n])
      })
    } catch (error) {
      // What the caches hold now is not known.
      for (const { sequence, reject } of group) {
        sequence.slot.tokens = []
        reject(error)
      }
    }
    this.#stepMs = performance.now() - began
  }

  /** Waits a little for the texts that were stepped last and have not asked for their next token yet. */
  async #gather(): Promise<void> {
    const missing = (): boolean =>
      [...this.#sequences].some((s) => s.awaited && !this.#steps.some((step) => step.sequence === s))
    const deadline = performance.now() + Math.min(MOST_WAIT_MS, this.#stepMs * WAIT_SHARE)
    while (missing()) {
      const left = deadline - performance.now()
      if (left <= 0) return
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.ceil(left))
        this.#changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
}

function byAdapter(steps: readonly PendingStep[]): PendingStep[][] {
  const groups = new Map<PlacedAdapter | null, PendingStep[]>()
  for (const step of steps) groups.set(step.sequence.adapter, [...(groups.get(step.sequence.adapter) ?? []), step])
  return [...groups.values()]
}
