import { randomUUID } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { inspect } from 'node:util'
import { z } from 'zod'
import { InferError } from '../errors.js'
import { defaultScryptCost, newProfileKey, seal, unseal } from './sealed-file.js'
import type { ProfileKey, ScryptCost } from './sealed-file.js'

export const profileKinds = ['fact', 'goal', 'preference', 'history'] as const
export type ProfileKind = (typeof profileKinds)[number]

const limits = { entries: 500, text: 2000, passphrase: 8 } as const

const entryText = z.string().trim().min(1).max(limits.text)
const entrySchema = z.object({
  id: z.string(),
  kind: z.enum(profileKinds),
  text: entryText,
  /** When the person agreed that this is kept. */
  agreedAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
})

/** One thing that a person agreed to have remembered, in their own words. Times are ISO 8601 in UTC. */
export type ProfileEntry = Readonly<z.infer<typeof entrySchema>>

const newEntrySchema = z.object({ kind: z.enum(profileKinds), text: entryText, agreed: z.literal(true) })

/** Something to remember; `agreed` says that the person was asked and said yes. */
export type NewProfileEntry = z.input<typeof newEntrySchema>

export interface ProfileStoreOptions {
  /** The file; it and its folder are created with the first entry, readable for their owner only. */
  readonly path: string
  /** At least 8 characters. It is kept in memory while the store is open, and nowhere else. */
  readonly passphrase: string
  readonly scrypt?: ScryptCost
}

const profileError = (message: string, cause?: unknown): InferError =>
  new InferError('MIRASTRAL_INFER_PROFILE', `profile: ${message}`, cause === undefined ? {} : { cause })

/**
 * What a person agreed to have remembered: shown, exported, corrected and deleted at any time. On disk it is one file,
 * encrypted with AES-256-GCM under a key that scrypt derives from the passphrase, and replaced as a whole by each change.
 * Nothing of it ever appears when the store is logged, inspected or turned into JSON.
 */
export class ProfileStore {
  readonly #path: string
  readonly #passphrase: string
  readonly #cost: ScryptCost
  #entries: readonly ProfileEntry[] = []
  #key: ProfileKey | undefined
  /** The file as last read or written; undefined when there was none. */
  #onDisk: string | undefined
  #work: Promise<unknown> = Promise.resolve()

  private constructor(options: ProfileStoreOptions) {
    this.#path = options.path
    this.#passphrase = options.passphrase
    this.#cost = options.scrypt ?? defaultScryptCost
  }

  /** Opens the file, or begins an empty profile where there is none. Throws `InferError` when the passphrase is wrong. */
  static async open(options: ProfileStoreOptions): Promise<ProfileStore> {
    if (options.passphrase.length < limits.passphrase) {
      throw profileError(`the passphrase must have at least ${limits.passphrase} characters`)
    }
    const store = new ProfileStore(options)
    store.#onDisk = await readOptional(options.path)
    if (store.#onDisk === undefined) return store
    const { plain, key } = await unseal(store.#onDisk, options.passphrase)
    store.#key = key
    store.#entries = parseEntries(plain)
    return store
  }

  /** All entries, oldest first. */
  show(): readonly ProfileEntry[] {
    return this.#entries
  }

  /** Everything, as readable JSON for the person to take away. */
  export(): string {
    const document = { format: 'mirastral-profile-export', version: 1, entries: this.#entries }
    return `${JSON.stringify(document, null, 2)}\n`
  }

  async add(entry: NewProfileEntry): Promise<ProfileEntry> {
    const { kind, text } = parse(newEntrySchema, entry)
    const now = new Date().toISOString()
    const added: ProfileEntry = { id: randomUUID(), kind, text, agreedAt: now, updatedAt: now }
    await this.#change((entries) => {
      if (entries.length >= limits.entries) throw profileError(`at most ${limits.entries} entries can be kept`)
      return [...entries, added]
    })
    return added
  }

  /** Replaces the text of an entry. */
  async correct(id: string, text: string): Promise<ProfileEntry> {
    const corrected = parse(entryText, text)
    const now = new Date().toISOString()
    let changed: ProfileEntry | undefined
    await this.#change((entries) =>
      entries.map((entry) => {
        if (entry.id !== id) return entry
        changed = { ...entry, text: corrected, updatedAt: now }
        return changed
      }),
    )
    if (changed === undefined) throw profileError('there is no such entry')
    return changed
  }

  async remove(id: string): Promise<void> {
    await this.#change((entries) => {
      const kept = entries.filter((entry) => entry.id !== id)
      if (kept.length === entries.length) throw profileError('there is no such entry')
      return kept
    })
  }

  /** Deletes the file and forgets the entries and the key. What is added later is sealed with a new key. */
  async deleteEverything(): Promise<void> {
    await this.#exclusive(async () => {
      await rm(this.#path, { force: true })
      await rm(temporary(this.#path), { force: true })
      this.#key?.key.fill(0)
      this.#key = undefined
      this.#onDisk = undefined
      this.#entries = []
    })
  }

  toJSON(): { entries: number } {
    return { entries: this.#entries.length }
  }

  [inspect.custom](): string {
    return `ProfileStore { entries: ${this.#entries.length} }`
  }

  async #change(change: (entries: readonly ProfileEntry[]) => readonly ProfileEntry[]): Promise<void> {
    await this.#exclusive(async () => {
      const entries = change(this.#entries)
      this.#key ??= await newProfileKey(this.#passphrase, this.#cost)
      if ((await readOptional(this.#path)) !== this.#onDisk) {
        throw profileError('the file was changed by another program; open it again')
      }
      const sealed = seal(JSON.stringify({ entries }), this.#key)
      await writeWhole(this.#path, sealed)
      this.#onDisk = sealed
      this.#entries = entries
    })
  }

  /** One change after the other; a failed one does not stop the next. */
  #exclusive<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#work.then(task, task)
    this.#work = result.catch(() => undefined)
    return result
  }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const problems = result.error.issues.map(
    ({ path, message }) => (path.length > 0 ? `${path.join('.')}: ` : '') + message,
  )
  throw profileError(`an entry is not valid: ${problems.join('; ')}`)
}

function parseEntries(plain: string): ProfileEntry[] {
  try {
    return z.object({ entries: z.array(entrySchema).max(limits.entries) }).parse(JSON.parse(plain)).entries
  } catch {
    throw profileError('the file was written by another version of this program')
  }
}

const temporary = (path: string): string => `${path}.tmp`

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw profileError(`cannot read the file ${path}`, error)
  }
}

/** Written beside the old file, flushed, then renamed over it: the file is always the old or the new one as a whole. */
async function writeWhole(path: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await open(temporary(path), 'w', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await chmod(temporary(path), 0o600)
    await rename(temporary(path), path)
  } catch (error) {
    throw profileError(`cannot write the file ${path}`, error)
  }
}
