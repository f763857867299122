import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Values by step of every tag, as TensorBoard shows them: files in the order of their names, restarts purge what they repeat. */
export type Series = Map<string, [step: number, value: number][]>

/** Just as much of the format as scalars need; see src/tensorboard.ts. */
export async function readTensorBoard(folder: string): Promise<Series> {
  const series: Series = new Map()
  for (const name of (await readdir(folder)).sort()) {
    for (const event of eventsIn(await readFile(join(folder, name)))) {
      if (event.restart)
        for (const [tag, values] of series)
          series.set(
            tag,
            values.filter(([step]) => step < event.step),
          )
      for (const [tag, value] of event.scalars) series.set(tag, [...(series.get(tag) ?? []), [event.step, value]])
    }
  }
  return series
}

interface ReadEvent {
  readonly step: number
  readonly restart: boolean
  readonly scalars: [string, number][]
}

function* eventsIn(file: Buffer): Generator<ReadEvent> {
  for (let at = 0; at + 12 <= file.length;) {
    const length = Number(file.readBigUInt64LE(at))
    // A killed process may leave its last record torn.
    if (at + 16 + length > file.length) return
    const fields = [...fieldsIn(file.subarray(at + 12, at + 12 + length))]
    const summary = fields.find(({ field }) => field === 5)
    const values = summary ? [...fieldsIn(summary.bytes)].map(({ bytes }) => [...fieldsIn(bytes)]) : []
    yield {
      step: fields.find(({ field }) => field === 2)?.number ?? 0,
      restart: fields.some(({ field }) => field === 7),
      scalars: values.map(([tag, value]) => [tag.bytes.toString(), value.bytes.readFloatLE()]),
    }
    at += 16 + length
  }
}

function* fieldsIn(bytes: Buffer): Generator<{ field: number; number: number; bytes: Buffer }> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++]
      value += (byte & 127) * shift
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = varint()
    const [field, type] = [key >> 3, key & 7]
    const number = type === 0 ? varint() : 0
    const length = type === 0 ? 0 : type === 1 ? 8 : type === 5 ? 4 : varint()
    yield { field, number, bytes: bytes.subarray(at, at + length) }
    at += length
  }
}
