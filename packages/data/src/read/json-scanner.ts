import { FileError } from './file-problems.js'
import type { Limits } from './limits.js'
import type { RawRecord } from './raw-record.js'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** One value of the file. */
export interface ScannedValue {
  raw: RawRecord
  /** The number of the top-level value that it is or belongs to. */
  top: number
  /** `object`: a whole top-level object; `element`: an element of a top-level list, or of a list in a large object. */
  kind: 'object' | 'element'
}

/** What is being read: nothing, a top-level list, a top-level object, or one so large that it must wrap its records. */
type Mode = 'between' | 'list' | 'object' | 'wrapper'

/**
 * Cuts a stream of JSON bytes into values without parsing them: the elements of a top-level list, or top-level objects one
 * after another. Only one value at a time is held in memory. Of an object that is larger than one record may be, the
 * elements of its lists are cut out.
 *
 * Between the cuts only strings and brackets are looked at; `JSON.parse` decides whether a piece is JSON.
 */
export class JsonScanner {
  private readonly limits: Limits
  private values: ScannedValue[] = []
  private mode: Mode = 'between'
  private depth = 0
  private inString = false
  private escaped = false
  private top = -1
  /** Whether the bytes at hand belong to a value, and those of it that came before the current chunk. */
  private capturing = false
  private pieces: Uint8Array[] = []
  private captured = 0
  private tooDeep = false

  constructor(limits: Limits) {
    this.limits = limits
  }

  /** The values that end in this chunk. @throws FileError not-json for anything but objects and lists. */
  push(chunk: Uint8Array): ScannedValue[] {
    this.scan(chunk)
    const { values } = this
    this.values = []
    return values
  }

  /** @throws FileError truncated where the stream ends inside a value, no-records where there was none. */
  finish(): void {
    if (this.mode !== 'between') throw new FileError('truncated')
    if (this.top < 0) throw new FileError('no-records')
  }

  private scan(chunk: Uint8Array): void {
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]
      if (this.inString) {
        if (this.escaped) this.escaped = false
        else if (byte === BACKSLASH) this.escaped = true
        else if (byte === QUOTE) this.inString = false
      } else if (byte === QUOTE) {
        if (this.mode === 'between') throw new FileError('not-json')
        this.inString = true
      } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
        if (this.open(byte)) start = this.mode === 'object' ? i : i + 1
      } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
        this.close(chunk, start, i)
      } else if (byte === COMMA) {
        if (this.isBetweenElements()) {
          this.emit(chunk.subarray(start, i), 'element')
          start = i + 1
        }
      } else if (byte > 0x20 && this.mode === 'between') {
        throw new FileError('not-json')
      }
    }
    if (this.capturing) this.keep(chunk.subarray(start))
  }

  /** Returns true where a value begins. */
  private open(byte: number): boolean {
    this.depth++
    if (this.mode === 'between') {
      this.top++
      this.mode = byte === OPEN_LIST ? 'list' : 'object'
      this.capturing = true
      return true
    }
    if (this.depth > this.limits.maxDepth) this.tooDeep = true
    if (this.mode === 'wrapper' && this.depth === 2 && byte === OPEN_LIST) {
      this.capturing = true
      return true
    }
    return false
  }

  private close(chunk: Uint8Array, start: number, end: number): void {
    if (this.mode === 'between') throw new FileError('not-json')
    if (this.isBetweenElements()) {
      const last = chunk.subarray(start, end)
      if (this.captured > 0 || last.some((byte) => byte > 0x20)) this.emit(last, 'element')
      this.stopCapturing()
    }
    this.depth--
    if (this.depth > 0) return
    if (this.mode === 'object') {
      const last = chunk.subarray(start, end + 1)
      if (this.captured + last.length > this.limits.maxRecordBytes) {
        this.readAsWrapper([...this.pieces, last])
        return
      }
      this.emit(last, 'object')
    }
    this.stopCapturing()
    this.mode = 'between'
  }

  private isBetweenElements(): boolean {
    return (
      this.capturing && ((this.mode === 'list' && this.depth === 1) || (this.mode === 'wrapper' && this.depth === 2))
    )
  }

  private keep(piece: Uint8Array): void {
    this.captured += piece.length
    this.pieces.push(piece)
    if (this.captured <= this.limits.maxRecordBytes) return
    if (this.mode === 'object') this.readAsWrapper(this.pieces)
    else this.pieces = []
  }

  private readAsWrapper(pieces: readonly Uint8Array[]): void {
    this.stopCapturing()
    this.mode = 'wrapper'
    this.depth = 0
    this.inString = false
    this.escaped = false
    this.tooDeep = false
    for (const piece of pieces) this.scan(piece)
  }

  private emit(last: Uint8Array, kind: ScannedValue['kind']): void {
    const { top } = this
    if (this.captured + last.length > this.limits.maxRecordBytes) {
      this.values.push({ raw: { rule: 'record-too-large' }, top, kind })
    } else if (this.tooDeep) {
      this.values.push({ raw: { rule: 'too-deep' }, top, kind })
    } else {
      const bytes = this.pieces.length === 0 ? last : Buffer.concat([...this.pieces, last])
      this.values.push({ raw: { bytes }, top, kind })
    }
    this.pieces = []
    this.captured = 0
    this.tooDeep = false
  }

  private stopCapturing(): void {
    this.capturing = false
    this.pieces = []
    this.captured = 0
  }
}
