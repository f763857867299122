import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { crc32c } from './crc32c.js'

/** An event of TensorBoard's event.proto, as far as scalars need it. */
export interface TensorBoardEvent {
  /** Seconds since 1970. */
  readonly wallTime: number
  readonly step?: number
  readonly fileVersion?: string
  readonly scalars?: Readonly<Record<string, number>>
  /** Says that the run begins again at `step`: readers drop what they have from there on. */
  readonly restart?: boolean
}

/** Field numbers of event.proto and summary.proto (TensorFlow). */
const eventField = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const
const summaryValueField = 1
const valueField = { tag: 1, simpleValue: 2 } as const
const sessionLogStatusField = 1
const sessionLogStart = 1

const wireType = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

export function encodeEvent(event: TensorBoardEvent): Buffer {
  const parts = [key(eventField.wallTime, wireType.fixed64), float64(event.wallTime)]
  // Proto3 leaves out zeros.
  if (event.step) parts.push(key(eventField.step, wireType.varint), varint(event.step))
  if (event.fileVersion !== undefined) parts.push(bytes(eventField.fileVersion, Buffer.from(event.fileVersion)))
  if (event.scalars) parts.push(bytes(eventField.summary, encodeScalars(event.scalars)))
  if (event.restart) {
    const log = Buffer.concat([key(sessionLogStatusField, wireType.varint), varint(sessionLogStart)])
    parts.push(bytes(eventField.sessionLog, log))
  }
  return Buffer.concat(parts)
}

function encodeScalars(scalars: Readonly<Record<string, number>>): Buffer {
  const values = Object.entries(scalars).map(([tag, value]) => {
    const encoded = [
      bytes(valueField.tag, Buffer.from(tag)),
      key(valueField.simpleValue, wireType.fixed32),
      float32(value),
    ]
    return bytes(summaryValueField, Buffer.concat(encoded))
  })
  return Buffer.concat(values)
}

function key(field: number, type: number): Buffer {
  return varint((field << 3) | type)
}

function bytes(field: number, content: Buffer): Buffer {
  return Buffer.concat([key(field, wireType.bytes), varint(content.length), content])
}

/** A non-negative safe integer, seven bits at a time from the lowest. */
function varint(value: number): Buffer {
  const found: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) found.push((rest % 128) | 128)
  found.push(rest)
  return Buffer.from(found)
}

function float32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeFloatLE(value)
  return buffer
}

function float64(value: number): Buffer {
  const buffer = Buffer.alloc(8)
  buffer.writeDoubleLE(value)
  return buffer
}

/** TFRecord framing: length, its checksum, the data, their checksum (TensorFlow's record_writer.cc). */
export function encodeRecord(data: Buffer): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(data.length))
  return Buffer.concat([length, maskedChecksum(length), data, maskedChecksum(data)])
}

function maskedChecksum(data: Buffer): Buffer {
  const crc = crc32c(data)
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0)
  return buffer
}

/** The time in the names of the event files of a folder, seconds; 0 where there are none. */
async function newestTime(folder: string): Promise<number> {
  const times = (await readdir(folder)).map((name) =>
    Number(/^events\.out\.tfevents\.(\d{10}\.\d{3})\./.exec(name)?.[1] ?? 0),
  )
  return Math.max(0, ...times)
}

/** Writes one event file; writes are queued in order, `close` waits for them. */
export class TensorBoardWriter {
  private queue: Promise<void> = Promise.resolve()
  private failure: Error | null = null

  private constructor(private readonly handle: FileHandle) {}

  /** Opens a new event file in `folder`. `firstStep` is the first step it will have: readers forget older files from there on. */
  static async open(folder: string, firstStep: number): Promise<TensorBoardWriter> {
    await mkdir(folder, { recursive: true })
    // TensorBoard reads the files of a folder in the order of their names, and a clock may have been put back.
    const wallTime = Math.max(Date.now() / 1000, (await newestTime(folder)) + 0.001)
    const name = `events.out.tfevents.${wallTime.toFixed(3)}.${hostname()}.${process.pid}`
    const writer = new TensorBoardWriter(await open(join(folder, name), 'a'))
    writer.write({ wallTime, fileVersion: 'brain.Event:2' })
    writer.write({ wallTime, step: firstStep, restart: true })
    return writer
  }

  add(step: number, scalars: Readonly<Record<string, number>>): void {
    this.write({ wallTime: Date.now() / 1000, step, scalars })
  }

  /** Returns what went wrong with the file, if anything did: it then holds only the beginning of the run. */
  async close(): Promise<Error | null> {
    await this.queue
    await this.handle.close()
    return this.failure
  }

  private write(event: TensorBoardEvent): void {
    const record = encodeRecord(encodeEvent(event))
    this.queue = this.queue.then(async () => {
      if (this.failure) return
      try {
        await this.handle.write(record)
      } catch (error) {
        this.failure = error instanceof Error ? error : new Error(String(error))
      }
    })
  }
}
