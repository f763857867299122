import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { crc32c } from './crc32c.js'
import type { TensorBoardEvent } from './tensorboard.js'
import { encodeEvent, encodeRecord, TensorBoardWriter } from './tensorboard.js'

const golden = JSON.parse(
  readFileSync(new URL('../../../fixtures/trainer/tensorboard.json', import.meta.url), 'utf8'),
) as { event: TensorBoardEvent; record: string }[]

describe('TensorBoard events', () => {
  it.each(golden)('are byte for byte what its own writer makes: $event', ({ event, record }) => {
    expect(encodeRecord(encodeEvent(event)).toString('hex')).toBe(record)
  })

  it('have the checksum of RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43)
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e)
  })

  it('are all in the file once it is closed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mirastral-tensorboard-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const writer = await TensorBoardWriter.open(join(folder, 'logs'), 3)
    for (let step = 3; step < 50; step++) writer.add(step, { 'train/loss': 1 / step })
    expect(await writer.close()).toBeNull()
    const [name] = await readdir(join(folder, 'logs'))
    expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\.\d{3}\./)
    const bytes = await readFile(join(folder, 'logs', name))
    const lengths: number[] = []
    for (let at = 0; at < bytes.length; at += 16 + (lengths.at(-1) ?? 0))
      lengths.push(Number(bytes.readBigUInt64LE(at)))
    expect(lengths).toHaveLength(2 + 47)
  })
})
