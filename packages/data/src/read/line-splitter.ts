import type { Limits } from './limits.js'
import type { RawRecord } from './raw-record.js'

const LINE_FEED = 0x0a

/** Cuts a stream of bytes at line ends; blank lines are left out. One line at a time is held in memory. */
export class LineSplitter {
  private readonly limits: Limits
  private pieces: Uint8Array[] = []
  private kept = 0

  constructor(limits: Limits) {
    this.limits = limits
  }

  push(chunk: Uint8Array): RawRecord[] {
    const lines: RawRecord[] = []
    let start = 0
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      this.endLine(chunk.subarray(start, end), lines)
      start = end + 1
    }
    const rest = chunk.subarray(start)
    this.kept += rest.length
    if (this.kept <= this.limits.maxRecordBytes) this.pieces.push(rest)
    else this.pieces = []
    return lines
  }

  finish(): RawRecord[] {
    const lines: RawRecord[] = []
    this.endLine(new Uint8Array(0), lines)
    return lines
  }

  private endLine(last: Uint8Array, lines: RawRecord[]): void {
    const size = this.kept + last.length
    if (size > this.limits.maxRecordBytes) {
      lines.push({ rule: 'record-too-large' })
    } else {
      const bytes = this.pieces.length === 0 ? last : Buffer.concat([...this.pieces, last])
      if (bytes.some((byte) => byte > 0x20)) lines.push({ bytes })
    }
    this.pieces = []
    this.kept = 0
  }
}
