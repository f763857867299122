import type { NamePrefixes, Session } from '@mirastral/engine'
import { f32 } from '@mirastral/engine'
import type { AdapterTensors, LoraPlan } from '@mirastral/lora'
import { adapterName, plainLora } from '@mirastral/lora'

export interface DecoderAdapter {
  readonly plan: LoraPlan
  readonly tensors: AdapterTensors
  /** What PiSSA and OLoRA took off the base; empty otherwise. */
  readonly subtracted?: AdapterTensors
}

/** An adapter with a scale, as a device has it. It never changes: another scale is another one. */
export interface PlacedAdapter {
  readonly id: number
  readonly plan: LoraPlan
  readonly tensors: AdapterTensors
  /** Equal for adapters that the same programs can use. */
  readonly shape: string
}

const states = adapterName('')
const scaledParts = /\.lora_B\.(?:weight|bias)$/

/** B times `scale`, which is what PEFT's `scale_layer` computes: DoRA and biases included, modules trained in full not. */
function scaledTensors(tensors: AdapterTensors, scale: number): AdapterTensors {
  if (scale === 1) return tensors
  return new Map(
    [...tensors].map(([key, { shape, data }]) => [
      key,
      { shape, data: scaledParts.test(key) ? data.map((x) => x * scale) : data },
    ]),
  )
}

/** The adapters that a session holds beside its base model. */
export class AdapterBank {
  readonly #session: Session
  readonly #onShapeGone: (shape: string) => Promise<void>
  readonly #placed = new Set<PlacedAdapter>()
  #next = 0

  /** `onShapeGone` is called when the last adapter of a shape is removed. */
  constructor(session: Session, onShapeGone: (shape: string) => Promise<void>) {
    this.#session = session
    this.#onShapeGone = onShapeGone
  }

  async place(adapter: DecoderAdapter, scale: number): Promise<PlacedAdapter> {
    const { plan, tensors } = plainLora(adapter, adapter.subtracted ?? new Map())
    const { useDora, loraBias } = plan.config
    const shape = JSON.stringify([useDora, loraBias, plan.layers, plan.savedModules])
    const placed: PlacedAdapter = { id: this.#next++, plan, shape, tensors: scaledTensors(tensors, scale) }
    for (const [key, { shape, data }] of placed.tensors)
      await this.#session.bind(this.#prefix(placed) + key, { type: f32(...shape), data })
    this.#placed.add(placed)
    return placed
  }

  async remove(adapter: PlacedAdapter): Promise<void> {
    if (!this.#placed.delete(adapter)) return
    for (const key of adapter.tensors.keys()) await this.#session.unbind(this.#prefix(adapter) + key)
    if (![...this.#placed].some(({ shape }) => shape === adapter.shape)) await this.#onShapeGone(adapter.shape)
  }

  /** What a run must be told to use the adapter. */
  names(adapter: PlacedAdapter | null): NamePrefixes {
    return adapter === null ? {} : { [states]: this.#prefix(adapter) }
  }

  #prefix(adapter: PlacedAdapter): string {
    return `adapters/${adapter.id}/`
  }
}
