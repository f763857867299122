import { ortBackend } from '@mirastral/engine'
import type { Backend, Session } from '@mirastral/engine'
import { afterEach, describe, expect, it } from 'vitest'
import { goldenAdapter, goldenAnswers, goldenModel } from '../../test/support/answers-together.js'
import type { GoldenAnswer } from '../../test/support/answers-together.js'
import { argmax } from '../logits.js'
import { Sampler } from '../sample.js'
import { AdapterSet } from './adapter-set.js'
import type { DecoderModel } from './decode-program.js'
import { DeviceDecoder } from './device-decoder.js'
import type { DecoderRequest } from './device-decoder.js'
import { DecodeScheduler } from './scheduler.js'

const goldens = goldenAnswers()
const cpu = ortBackend({ threads: 2, worker: false })

interface Rig {
  readonly model: DecoderModel
  readonly decoder: DeviceDecoder
  readonly scheduler: DecodeScheduler
  readonly adapters: AdapterSet
  /** Prompts as they were read: how many tokens each run took. */
  readonly reads: number[]
  readonly batches: number[]
}

const opened: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of opened.splice(0)) await close()
})

async function rig(name: string, options: Partial<DecoderRequest> = {}): Promise<Rig> {
  const model = await goldenModel(name)
  const decoder = await DeviceDecoder.create({ backend: cpu, model, contextLength: 64, ...options })
  const [reads, batches]: number[][] = [[], []]
  const watched = Object.assign(Object.create(decoder) as DeviceDecoder, {
    slots: decoder.slots,
    decodesExactly: decoder.decodesExactly,
    prefill: async (...args: Parameters<DeviceDecoder['prefill']>) => {
      const read = await decoder.prefill(...args)
      reads.push(read.count)
      return read
    },
    step: (...args: Parameters<DeviceDecoder['step']>) => {
      batches.push(args[0].length)
      return decoder.step(...args)
    },
  })
  const scheduler = new DecodeScheduler(watched)
  const adapters = new AdapterSet(decoder.adapters, (adapter) => scheduler.forget(adapter))
  opened.push(async () => {
    await scheduler.settle()
    await adapters.settle()
    await decoder.dispose()
    await model.close()
  })
  return { model, decoder, scheduler, adapters, reads, batches }
}

interface Wish {
  readonly adapter?: string | null
  readonly choose?: (logits: Float32Array) => number
  /** Called before each token. */
  readonly before?: (count: number) => Promise<void> | void
}

async function continued({ scheduler, adapters }: Rig, prompt: readonly number[], count: number, wish: Wish = {}) {
  const use = adapters.begin(wish.adapter ?? null)
  const decoding = await scheduler.begin(Int32Array.from(prompt), use.placed)
  const choose = wish.choose ?? argmax
  const tokens: number[] = []
  let { logits } = decoding
  try {
    for (;;) {
      tokens.push(choose(logits))
      if (tokens.length === count) return tokens
      await wish.before?.(tokens.length)
      logits = await decoding.append(tokens[tokens.length - 1])
    }
  } finally {
    decoding.close()
    use.end()
  }
}

const names = Object.keys(goldens)

describe('decoding together', () => {
  it.each(names)('%s gives what Transformers generates, one answer at a time and all at once', async (name) => {
    const r = await rig(name)
    const { base } = goldens[name]
    for (const { prompt, tokens } of base) expect(await continued(r, prompt, tokens.length)).toEqual(tokens)
    const together = await Promise.all(base.map(({ prompt, tokens }) => continued(r, prompt, tokens.length)))
    expect(together).toEqual(base.map(({ tokens }) => tokens))
    expect(Math.max(...r.batches)).toBeGreaterThan(1)
  })

  it.each(names)('%s does so with an adapter, at two scales, beside answers without one', async (name) => {
    const r = await rig(name)
    await r.adapters.load('whole', goldenAdapter(r.model))
    await r.adapters.load('halved', goldenAdapter(r.model), 0.5)
    const wishes = ([['base', null], ['adapter', 'whole'], ['half', 'halved']] as const).flatMap(([kind, adapter]) =>
      goldens[name][kind].map((example) => ({ ...example, adapter })),
    ) // prettier-ignore
    const answers = wishes.map(({ prompt, tokens, adapter }) => continued(r, prompt, tokens.length, { adapter }))
    expect(await Promise.all(answers)).toEqual(wishes.map(({ tokens }) => tokens))
  })

  it('draws what it draws alone, whatever the others do', async () => {
    const drawn = (r: Rig, seed: number): Promise<number[]> => {
      const sampler = new Sampler({ temperature: 1.2, seed }, [], 0)
      return continued(r, goldens.qwen3.base[seed % 5].prompt, 12, { choose: (logits) => sampler.next(logits) })
    }
    const seeds = [1, 2, 3, 4, 5, 6]
    const alone = await rig('qwen3', { sequences: 1 })
    const expected: number[][] = []
    for (const seed of seeds) expected.push(await drawn(alone, seed))
    const r = await rig('qwen3', { sequences: 4 })
    expect(await Promise.all(seeds.map((seed) => drawn(r, seed)))).toEqual(expected)
    expect(Math.max(...r.batches)).toBe(4)
  })

  it('is not disturbed by texts that join, end and are given up', async () => {
    const r = await rig('mistral-window', { sequences: 3 })
    const { base } = goldens['mistral-window']
    const results: Promise<number[]>[] = []
    const join = (n: number) => results.push(continued(r, base[n].prompt, base[n].tokens.length))
    const first = continued(r, base[4].prompt, base[4].tokens.length, {
      before: async (count) => {
        if (count === 3) join(0)
        if (count === 5) {
          const decoding = await r.scheduler.begin(Int32Array.from(base[3].prompt), null)
          const lost = decoding.append(7)
          decoding.close()
          await expect(lost).rejects.toThrow('closed')
          join(1)
        }
      },
    })
    expect(await first).toEqual(base[4].tokens)
    expect(await Promise.all(results)).toEqual([base[0].tokens, base[1].tokens])
    expect(r.scheduler.load).toEqual({ active: 0, waiting: 0 })
  })

  it('goes on while a reader takes its time, who then goes on too', async () => {
    const r = await rig('qwen3', { sequences: 3 })
    const { base } = goldens.qwen3
    let goOn: () => void = () => undefined
    const pause = new Promise<void>((resolve) => (goOn = resolve))
    const slow = continued(r, base[0].prompt, 6, { before: (count) => (count === 2 ? pause : undefined) })
    const others = await Promise.all([1, 4].map((n) => continued(r, base[n].prompt, base[n].tokens.length)))
    expect(others).toEqual([base[1].tokens, base[4].tokens])
    goOn()
    expect(await slow).toEqual(base[0].tokens.slice(0, 6))
  })
})

describe('the places on a device', () => {
  it('are given in order, and one that waits may go', async () => {
    const r = await rig('llama-tied', { sequences: 1 })
    const { base } = goldens['llama-tied']
    const holder = await r.scheduler.begin(Int32Array.from(base[0].prompt), null)
    const controller = new AbortController()
    const reason = new Error('no longer')
    const gone = r.scheduler.begin(Int32Array.from(base[1].prompt), null, controller.signal)
    const order: number[] = []
    const waiting = [1, 2].map((n) => continued(r, base[n].prompt, 2).then(() => order.push(n)))
    expect(r.scheduler.load).toEqual({ active: 1, waiting: 3 })
    controller.abort(reason)
    await expect(gone).rejects.toBe(reason)
    holder.close()
    holder.close()
    await Promise.all(waiting)
    expect(order).toEqual([1, 2])
    expect(r.scheduler.load).toEqual({ active: 0, waiting: 0 })
  })

  it('keep what a conversation shares with its last turn', async () => {
    const r = await rig('qwen3', { sequences: 2 })
    const [a, b] = goldens.qwen3.base
    const tokens = await continued(r, a.prompt, 6)
    await continued(r, b.prompt, 2)
    r.reads.length = 0
    // The sixth token was chosen and never computed.
    await continued(r, [...a.prompt, ...tokens, 5, 6], 2)
    expect(r.reads).toEqual([3])
  })

  it('are read anew with another adapter, and after an adapter is replaced', async () => {
    const r = await rig('qwen3', { sequences: 1 })
    const { base, adapter, half } = goldens.qwen3
    const ask = ({ prompt, tokens }: GoldenAnswer, name: string | null) =>
      continued(r, prompt, tokens.length, { adapter: name })
    await r.adapters.load('a', goldenAdapter(r.model))
    expect(await ask(adapter[1], 'a')).toEqual(adapter[1].tokens)
    expect(await ask(base[1], null)).toEqual(base[1].tokens)
    const running = ask(adapter[1], 'a')
    await r.adapters.setScale('a', 0.5)
    expect(await running).toEqual(adapter[1].tokens)
    expect(await ask(half[1], 'a')).toEqual(half[1].tokens)
    await r.adapters.load('a', goldenAdapter(r.model, 5))
    const wider = await ask(adapter[1], 'a')
    const fresh = await rig('qwen3', { sequences: 1 })
    await fresh.adapters.load('b', goldenAdapter(fresh.model, 5))
    expect(wider).toEqual(await continued(fresh, adapter[1].prompt, wider.length, { adapter: 'b' }))
    await r.adapters.unload('a')
    expect(() => r.adapters.begin('a')).toThrow('there is no adapter "a": none is loaded')
  })

  it('give back the programs of an adapter when the last of its shape is gone', async () => {
    const counted = { live: 0 }
    const r = await rig('llama-tied', { backend: counting(cpu, counted) })
    const { base, adapter } = goldens['llama-tied']
    await continued(r, base[0].prompt, 2)
    const before = counted.live
    await r.adapters.load('a', goldenAdapter(r.model))
    await r.adapters.load('b', goldenAdapter(r.model), 2)
    await continued(r, adapter[0].prompt, 2, { adapter: 'a' })
    const during = counted.live
    expect(during).toBeGreaterThan(before)
    await r.adapters.setScale('a', 3)
    await r.adapters.unload('a')
    expect(counted.live).toBe(during)
    await r.adapters.unload('b')
    expect(counted.live).toBe(before)
  })
})

describe('rounded weights', () => {
  it.each(['int8', 'int4'] as const)(
    'as %s decode near the exact ones, whatever of the prompt is there already',
    async (precision) => {
      const exact = await rig('mistral-bnb-nf4')
      const r = await rig('mistral-bnb-nf4', { precision })
      const [{ prompt }] = goldens['mistral-bnb-nf4'].base
      const ids = Int32Array.from([...prompt, 8, 9])
      const logitsOf = async ({ scheduler }: Rig): Promise<Float32Array> => {
        const decoding = await scheduler.begin(ids, null)
        const logits = await decoding.append(5)
        decoding.close()
        return logits
      }
      const [expected, first, second] = [await logitsOf(exact), await logitsOf(r), await logitsOf(r)]
      const spread = Math.max(...expected) - Math.min(...expected)
      const difference = Math.max(...first.map((x, i) => Math.abs(x - expected[i])))
      expect(difference / spread).toBeLessThan(precision === 'int8' ? 0.05 : 0.5)
      expect(difference).toBeGreaterThan(0)
      // The prompt is read again in other parts, which rounds its last digits otherwise.
      expect(Math.max(...second.map((x, i) => Math.abs(x - first[i]))) / spread).toBeLessThan(0.01)
    },
  )
})

/** Counts the programs that a device holds. */
function counting(backend: Backend, counted: { live: number }): Backend {
  const watched = (session: Session): Session =>
    Object.assign(Object.create(session) as Session, {
      compile: async (...args: Parameters<Session['compile']>) => {
        const executable = await session.compile(...args)
        counted.live++
        return {
          run: (...run: Parameters<typeof executable.run>) => executable.run(...run),
          dispose: () => {
            counted.live--
            return executable.dispose()
          },
        }
      },
    })
  return { name: backend.name, createSession: async () => watched(await backend.createSession()) }
}
