import type { RawRecord } from '../read/raw-record.js'

/** Records in a form that crosses threads without being copied: the bytes of all in one buffer. */
export interface PackedRecords {
  bytes: Uint8Array<ArrayBuffer>
  /** Where each record's bytes end; equal to the end before it for a record that has none. */
  ends: Uint32Array
  /** The records that are no bytes, by index. */
  others: [index: number, record: RawRecord][]
}

export function packRecords(records: readonly RawRecord[]): PackedRecords {
  const others: [number, RawRecord][] = []
  const ends = new Uint32Array(records.length)
  let total = 0
  records.forEach((record, i) => {
    if ('bytes' in record) total += record.bytes.length
    else others.push([i, record])
    ends[i] = total
  })
  const bytes = new Uint8Array(total)
  records.forEach((record, i) => {
    if ('bytes' in record) bytes.set(record.bytes, i === 0 ? 0 : ends[i - 1])
  })
  return { bytes, ends, others }
}

export function unpackRecords({ bytes, ends, others }: PackedRecords): RawRecord[] {
  const records = Array.from(ends, (end, i): RawRecord => ({ bytes: bytes.subarray(i === 0 ? 0 : ends[i - 1], end) }))
  for (const [index, record] of others) records[index] = record
  return records
}
