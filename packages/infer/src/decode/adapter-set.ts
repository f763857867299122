import { InferError } from '../errors.js'
import type { AdapterBank, DecoderAdapter, PlacedAdapter } from './adapter-bank.js'

/** One adapter at one scale, and how many answers use it. */
interface Version {
  readonly placed: PlacedAdapter
  users: number
  retired: boolean
}

interface Entry {
  readonly adapter: DecoderAdapter
  readonly scale: number
  readonly version: Version
}

/** A use of an adapter, from the first token of a prompt to the end of the answer. */
export interface AdapterUse {
  readonly placed: PlacedAdapter | null
  readonly end: () => void
}

/**
 * The adapters of a model by name. An answer keeps the adapter that it began with: what is replaced or unloaded leaves
 * the device when the last answer with it has ended.
 */
export class AdapterSet {
  readonly #bank: AdapterBank
  readonly #onRemoved: (adapter: PlacedAdapter) => void
  readonly #entries = new Map<string, Entry>()
  #active: string | null = null
  /** Changes are made one after the other. */
  #changes: Promise<unknown> = Promise.resolve()

  constructor(bank: AdapterBank, onRemoved: (adapter: PlacedAdapter) => void) {
    this.#bank = bank
    this.#onRemoved = onRemoved
  }

  get names(): string[] {
    return [...this.#entries.keys()]
  }

  get active(): string | null {
    return this.#active
  }

  scaleOf(name: string): number {
    return this.#entry(name).scale
  }

  /** Puts an adapter on the device under a name; one that has the name already is replaced. */
  load(name: string, adapter: DecoderAdapter, scale = 1): Promise<void> {
    checkName(name)
    checkScale(scale)
    return this.#change(async () => {
      const placed = await this.#bank.place(adapter, scale)
      await this.#retire(this.#entries.get(name))
      this.#entries.set(name, { adapter, scale, version: { placed, users: 0, retired: false } })
    })
  }

  setScale(name: string, scale: number): Promise<void> {
    const { adapter, scale: before } = this.#entry(name)
    return before === scale ? Promise.resolve() : this.load(name, adapter, scale)
  }

  unload(name: string): Promise<void> {
    this.#entry(name)
    if (this.#active === name) this.#active = null
    return this.#change(async () => {
      const entry = this.#entries.get(name)
      this.#entries.delete(name)
      await this.#retire(entry)
    })
  }

  /** What answers without a name of their own use from now on; null is the base model alone. */
  use(name: string | null): void {
    if (name !== null) this.#entry(name)
    this.#active = name
  }

  begin(name: string | null): AdapterUse {
    if (name === null) return { placed: null, end: () => undefined }
    const { version } = this.#entry(name)
    version.users++
    let ended = false
    const end = (): void => {
      if (ended) return
      ended = true
      version.users--
      if (version.retired && version.users === 0) void this.#change(() => this.#remove(version))
    }
    return { placed: version.placed, end }
  }

  /** Resolves when every change asked for so far is made. */
  async settle(): Promise<void> {
    await this.#changes
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name)
    if (entry) return entry
    const known = this.names.join(', ') || 'none is loaded'
    throw new InferError('MIRASTRAL_INFER_OPTION', `adapters: there is no adapter ${JSON.stringify(name)}: ${known}`)
  }

  #change(act: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(act)
    this.#changes = done.catch(() => undefined)
    return done
  }

  async #retire(entry: Entry | undefined): Promise<void> {
    if (!entry) return
    entry.version.retired = true
    if (entry.version.users === 0) await this.#remove(entry.version)
  }

  async #remove({ placed }: Version): Promise<void> {
    this.#onRemoved(placed)
    await this.#bank.remove(placed)
  }
}

/** A name becomes part of a model id, behind a colon. */
function checkName(name: string): void {
  if (/^[\w.-]{1,100}$/.test(name)) return
  const rule = 'a name must have 1 to 100 letters, digits, dots, hyphens or underscores'
  throw new InferError('MIRASTRAL_INFER_OPTION', `adapters: ${rule}, got ${JSON.stringify(name)}`)
}

function checkScale(scale: number): void {
  if (Number.isFinite(scale) && Math.abs(scale) <= 100) return
  throw new InferError('MIRASTRAL_INFER_OPTION', `adapters: a scale must be a number from -100 to 100, got ${scale}`)
}
