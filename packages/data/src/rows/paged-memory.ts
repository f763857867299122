import { tmpdir } from 'node:os'
import { DataError } from '../errors.js'
import { TemporaryFile } from './temporary-file.js'

/** Small, as most of what is paged is a hash table: a page is read for one word of it. */
export const PAGE_BYTES = 1024
const PAGE_WORDS = PAGE_BYTES / 4
const SLAB_BITS = 10
const PAGES_PER_SLAB = 1 << SLAB_BITS
const SLAB_BYTES = PAGES_PER_SLAB * PAGE_BYTES
/** With the program itself and a chunk of input this stays well under 300 MB. */
const DEFAULT_BYTES = 40 << 20

/**
 * A bounded amount of memory for arrays of any size: pages that were not used for long go to temporary files. Below the
 * bound there are no files.
 */
export class PagedMemory {
  readonly folder: string
  readonly bytes: Uint8Array[] = []
  readonly words: Uint32Array[] = []
  /** Per frame: used since the hand last passed, and not as it is in its file. */
  readonly used: Uint8Array
  readonly changed: Uint8Array
  private readonly arrays = new Set<PagedArray>()
  private readonly owners: (PagedArray | undefined)[] = []
  private readonly pages: Uint32Array
  private readonly free: number[] = []
  private readonly limit: number
  private hand = 0
  private isClosed = false

  constructor(maxBytes = DEFAULT_BYTES, folder = tmpdir()) {
    this.limit = Math.max(1, Math.floor(maxBytes / SLAB_BYTES)) * PAGES_PER_SLAB
    this.folder = folder
    this.used = new Uint8Array(this.limit)
    this.changed = new Uint8Array(this.limit)
    this.pages = new Uint32Array(this.limit)
  }

  createArray(): PagedArray {
    const array = new PagedArray(this)
    this.arrays.add(array)
    return array
  }

  /** A frame for a page, its content not yet that of the page. */
  take(owner: PagedArray, page: number): number {
    const frame = this.free.pop() ?? this.added() ?? this.evicted()
    this.owners[frame] = owner
    this.pages[frame] = page
    this.used[frame] = 1
    this.changed[frame] = 0
    return frame
  }

  bytesOf(frame: number): Uint8Array {
    const start = byteAt(frame, 0)
    return this.bytes[frame >>> SLAB_BITS].subarray(start, start + PAGE_BYTES)
  }

  release(array: PagedArray, frames: Iterable<number>): void {
    this.arrays.delete(array)
    for (const frame of frames) {
      this.owners[frame] = undefined
      this.free.push(frame)
    }
  }

  close(): void {
    this.isClosed = true
    for (const array of [...this.arrays]) array.release()
  }

  /** @throws DataError MIRASTRAL_DATA_OPTION after `close`. */
  requireOpen(): void {
    if (this.isClosed)
      throw new DataError('MIRASTRAL_DATA_OPTION', 'data: rows must be read and committed before close()')
  }

  private added(): number | undefined {
    const frame = this.owners.length
    if (frame === this.limit) return undefined
    if (frame % PAGES_PER_SLAB === 0) {
      const slab = new ArrayBuffer(SLAB_BYTES)
      this.bytes.push(new Uint8Array(slab))
      this.words.push(new Uint32Array(slab))
    }
    this.owners.push(undefined)
    return frame
  }

  /** The clock algorithm: the first page that was not used since the hand last passed it. */
  private evicted(): number {
    for (;;) {
      const frame = this.hand
      this.hand = (frame + 1) % this.limit
      const owner = this.owners[frame]
      if (owner === undefined) continue
      if (this.used[frame] === 0) {
        owner.evict(this.pages[frame], frame)
        return frame
      }
      this.used[frame] = 0
    }
  }
}

/** Bytes or 32-bit words at any index, zero until they are written. */
export class PagedArray {
  private readonly memory: PagedMemory
  /** Per page: 0 where it was never written, -1 where it is in the file only, else its frame plus one. */
  private frames = new Int32Array(16)
  private file: TemporaryFile | undefined

  /** @param memory use its `createArray`. */
  constructor(memory: PagedMemory) {
    this.memory = memory
  }

  word(index: number): number {
    const page = Math.floor(index / PAGE_WORDS)
    const state = page < this.frames.length ? this.frames[page] : 0
    if (state === 0) return this.zero()
    const frame = state > 0 ? state - 1 : this.load(page)
    this.memory.used[frame] = 1
    return this.memory.words[frame >>> SLAB_BITS][wordAt(frame, index)]
  }

  setWord(index: number, value: number): void {
    const frame = this.toWrite(Math.floor(index / PAGE_WORDS))
    this.memory.words[frame >>> SLAB_BITS][wordAt(frame, index)] = value
  }

  /**
   * `length` bytes from an offset, which must not cross the end of a page; to be looked at before anything else is read or
   * written.
   */
  view(offset: number, length: number): Uint8Array {
    const page = Math.floor(offset / PAGE_BYTES)
    const state = page < this.frames.length ? this.frames[page] : 0
    if (state === 0) return new Uint8Array(length + this.zero())
    const frame = state > 0 ? state - 1 : this.load(page)
    this.memory.used[frame] = 1
    const start = byteAt(frame, offset)
    return this.memory.bytes[frame >>> SLAB_BITS].subarray(start, start + length)
  }

  /** Writes bytes, which must not cross the end of a page. */
  set(offset: number, bytes: Uint8Array): void {
    const frame = this.toWrite(Math.floor(offset / PAGE_BYTES))
    this.memory.bytes[frame >>> SLAB_BITS].set(bytes, byteAt(frame, offset))
  }

  /** For the memory, which gives the frame to another page. */
  evict(page: number, frame: number): void {
    if (this.memory.changed[frame] === 1) {
      this.file ??= new TemporaryFile(this.memory.folder)
      this.file.write(this.memory.bytesOf(frame), page * PAGE_BYTES)
    }
    this.frames[page] = -1
  }

  /** Forgets everything. */
  release(): void {
    this.memory.release(
      this,
      Array.from(
        this.frames.filter((state) => state > 0),
        (state) => state - 1,
      ),
    )
    this.frames = new Int32Array(16)
    this.file?.close()
    this.file = undefined
  }

  /** What is in a page that was never written. */
  private zero(): number {
    this.memory.requireOpen()
    return 0
  }

  private toWrite(page: number): number {
    this.memory.requireOpen()
    if (page >= this.frames.length) {
      const larger = new Int32Array(Math.max(page + 1, this.frames.length * 2))
      larger.set(this.frames)
      this.frames = larger
    }
    const state = this.frames[page]
    const frame = state > 0 ? state - 1 : this.load(page)
    this.memory.used[frame] = 1
    this.memory.changed[frame] = 1
    return frame
  }

  private load(page: number): number {
    const isNew = this.frames[page] === 0
    const frame = this.memory.take(this, page)
    const bytes = this.memory.bytesOf(frame)
    bytes.fill(0)
    if (!isNew) this.file?.read(bytes, page * PAGE_BYTES)
    this.frames[page] = frame + 1
    return frame
  }
}

/** Where in its slab a word or byte of a frame lies, by its index in the array. */
function wordAt(frame: number, index: number): number {
  return (frame % PAGES_PER_SLAB) * PAGE_WORDS + (index % PAGE_WORDS)
}

function byteAt(frame: number, offset: number): number {
  return (frame % PAGES_PER_SLAB) * PAGE_BYTES + (offset % PAGE_BYTES)
}
