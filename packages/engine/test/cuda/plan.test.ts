import { expect, test } from 'vitest'
import { decodeProgram, microStepProgram, updateProgram } from '../../../../bench/decoder-program.js'
import { lowerProgram, type Lowered } from '../../src/backends/cuda/lower.js'
import { smallDecoder } from './parity.js'

interface Written {
  readonly start: number
  readonly end: number
  readonly buffer: number
}

/** Memory as the steps write it: which buffer every byte of the arena belongs to. */
class Shadow {
  private written: Written[] = []

  constructor(private readonly lowered: Lowered) {}

  private range(id: number): Omit<Written, 'buffer'> | null {
    const place = this.lowered.memory.locations.get(id)
    return place && 'offset' in place
      ? { start: place.offset, end: place.offset + this.lowered.buffers[id].bytes }
      : null
  }

  write(id: number): void {
    const range = this.range(id)
    if (!range) return
    const { start, end } = range
    const rest = this.written.flatMap((w) => [
      ...(w.start < Math.min(w.end, start) ? [{ ...w, end: Math.min(w.end, start) }] : []),
      ...(Math.max(w.start, end) < w.end ? [{ ...w, start: Math.max(w.start, end) }] : []),
    ])
    this.written = [...rest, { start, end, buffer: id }]
  }

  /** Whether the whole buffer still holds what was written to it. */
  holds(id: number): boolean {
    const range = this.range(id)
    if (!range) return true
    const own = this.written.filter((w) => w.buffer === id)
    return own.reduce((bytes, w) => bytes + w.end - w.start, 0) === range.end - range.start
  }
}

/** The steps that read a buffer whose memory something else has taken since. */
function faults(lowered: Lowered): string[] {
  const shadow = new Shadow(lowered)
  lowered.fed.forEach((id) => shadow.write(id))
  const found = lowered.steps.flatMap(({ label, reads, writes }) => {
    const lost = reads.filter((id) => !shadow.holds(id)).map((id) => `${label} reads ${lowered.buffers[id].label}`)
    writes.forEach((id) => shadow.write(id))
    return lost
  })
  return [...found, ...lowered.results.filter((id) => !shadow.holds(id)).map((id) => `result ${id}`)]
}

const s = smallDecoder
const programs = {
  'a micro-step': microStepProgram(s),
  'a micro-step with checkpointing': microStepProgram({ ...s, checkpoint: true }),
  'a micro-step of few rows': microStepProgram({ ...s, batch: 1, tokens: 5 }),
  'a micro-step with unequal heads': microStepProgram({ ...s, heads: 2, kvHeads: 1, headDim: 96, rank: 24 }),
  'an update': updateProgram(s),
  'decoding one text': decodeProgram({ ...s, batch: 1, capacity: 12 }),
  'decoding many texts': decodeProgram({ ...s, batch: 64, capacity: 12 }),
}

test.each(Object.entries(programs))('%s reads only what was written for it', (_, program) => {
  for (const nf4 of ['packed', 'resident'] as const) {
    expect(faults(lowerProgram(program, { nf4, multiprocessors: 132, architecture: 90 }))).toEqual([])
  }
})

test('a value that is written over is found', () => {
  const lowered = lowerProgram(programs['a micro-step'], { nf4: 'packed', multiprocessors: 132, architecture: 90 })
  const everywhere = new Map([...lowered.memory.locations].map(([id, at]) => [id, 'offset' in at ? { offset: 0 } : at]))
  expect(faults({ ...lowered, memory: { ...lowered.memory, locations: everywhere } }).length).toBeGreaterThan(10)
})
