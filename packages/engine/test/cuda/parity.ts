import type { Backend, HostTensor, Session, TensorData } from '../../src/backends/backend.js'
import { ReferenceSession, toFloat64 } from '../../src/backends/reference/backend.js'
import type { Program } from '../../src/ir/program.js'
import type { CudaOptions } from '../../src/backends/cuda/options.js'
import { TestRandom, tolerances, type Tolerance } from '../../src/testing/index.js'
import {
  adapterTypes,
  decodeProgram,
  microStepProgram,
  mistral7b,
  updateProgram,
  type DecoderShape,
} from '../../../../bench/decoder-program.js'
import { dataOf, expectNear, randomTensor, type Check } from './checks.js'

/** A small decoder with three key-value heads, an odd length and a few packed segments. */
export const smallDecoder: DecoderShape = {
  ...mistral7b,
  layers: 2,
  hidden: 192,
  intermediate: 448,
  heads: 6,
  kvHeads: 3,
  headDim: 64,
  vocabulary: 499,
  rank: 8,
  batch: 2,
  tokens: 67,
  segments: true,
}

/** Random tensors for everything a program declares; equal names give equal tensors. */
export function tensorsFor(programs: readonly Program[], s: DecoderShape): Map<string, HostTensor> {
  const tensors = new Map<string, HostTensor>()
  for (const program of programs) {
    for (const { name, value } of program.inputs) {
      if (tensors.has(name)) continue
      const type = program.types[value]
      tensors.set(name, tensorFor(name, randomTensor(type, new TestRandom(name), [0, s.vocabulary], 0.08), s))
    }
  }
  return tensors
}

function tensorFor(name: string, random: HostTensor, s: DecoderShape): HostTensor {
  if (!('type' in random)) return random
  const { type, data } = random
  const map = (fn: (x: number, i: number) => number): HostTensor => ({ type, data: Int32Array.from(data, fn) })
  if (name === 'positions') return map((_, i) => i % s.tokens)
  if (name === 'segments') return map((_, i) => (i % s.tokens > s.tokens - 5 ? 0 : 1 + Math.floor((i % s.tokens) / 30)))
  if (name === 'targets') return map((x, i) => (i % 3 === 0 ? -100 : x))
  if (/^(gradient|m|v)\./.test(name)) return { type, data: new Float32Array(data.length) }
  if (/norm\d?$/.test(name)) return randomTensor(type, new TestRandom(name), [0, 1], 1)
  return random
}

export async function bindTensors(
  session: Session,
  programs: readonly Program[],
  tensors: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  const wanted = new Set(programs.flatMap((p) => p.inputs.filter((i) => i.role !== 'input').map((i) => i.name)))
  for (const name of wanted) {
    const tensor = tensors.get(name)
    if (tensor) await session.bind(name, tensor)
  }
}

export const feedsFor = (program: Program, tensors: ReadonlyMap<string, HostTensor>): Record<string, TensorData> =>
  Object.fromEntries(
    program.inputs.flatMap((i) => {
      const tensor = tensors.get(i.name)
      return i.role === 'input' && tensor ? [[i.name, dataOf(tensor)]] : []
    }),
  )

/** Gradients after one micro-step, and its loss. */
async function gradientsOf(session: Session, s: DecoderShape): Promise<Map<string, TensorData>> {
  const program = microStepProgram(s)
  const tensors = tensorsFor([program], s)
  await bindTensors(session, [program], tensors)
  const exe = await session.compile(program)
  const { loss } = await exe.run(feedsFor(program, tensors))
  const result = new Map<string, TensorData>([['loss', loss]])
  for (const key of adapterTypes(s).keys()) result.set(key, (await session.read(`gradient.${key}`)).data)
  return result
}

async function withSession<T>(backend: Backend, act: (session: Session) => Promise<T>): Promise<T> {
  const session = await backend.createSession()
  try {
    return await act(session)
  } finally {
    await session.dispose()
  }
}

function gradientCheck(title: string, s: DecoderShape, tolerance: Tolerance = tolerances.bf16Model): Check {
  return {
    title,
    async run(backend) {
      const expected = await gradientsOf(new ReferenceSession(), s)
      const actual = await withSession(backend, (session) => gradientsOf(session, s))
      for (const [name, values] of expected) expectNear(`${title} ${name}`, actual.get(name) ?? [], values, tolerance)
    },
  }
}

/** Micro-steps and updates queued without waiting, then the adapters: equal bits however the runs are arranged. */
async function trained(backend: Backend, s: DecoderShape, steps: readonly number[]): Promise<Map<string, TensorData>> {
  return withSession(backend, async (session) => {
    const programs = [microStepProgram(s), updateProgram(s)]
    const tensors = tensorsFor(programs, s)
    await bindTensors(session, programs, tensors)
    const micro = await session.compile(programs[0])
    const update = await session.compile(programs[1])
    const pending: Promise<unknown>[] = []
    for (const t of steps) {
      const feeds = feedsFor(programs[0], tensors)
      pending.push(micro.run({ ...feeds, ids: feeds.ids.map((id) => (id + t) % s.vocabulary) }))
      const scalars = { learningRate: 1e-2, bias1: 1 - 0.9 ** t, bias2: 1 - 0.999 ** t, perToken: 0.01 }
      pending.push(update.run(Object.fromEntries(Object.entries(scalars).map(([k, v]) => [k, Float32Array.of(v)]))))
    }
    await Promise.all(pending)
    const result = new Map<string, TensorData>()
    for (const key of adapterTypes(s).keys()) result.set(key, (await session.read(`adapter.${key}`)).data)
    return result
  })
}

function expectSameBits(label: string, a: ReadonlyMap<string, TensorData>, b: ReadonlyMap<string, TensorData>): void {
  for (const [name, values] of a) {
    const other = b.get(name)
    if (!other || !values.every((x, i) => Object.is(x, other[i]))) throw new Error(`${label}: ${name} differs`)
  }
}

const decodeCheck = (title: string, s: DecoderShape): Check => ({
  title,
  async run(backend) {
    const program = decodeProgram(s)
    const tensors = tensorsFor([program], s)
    const reference = new ReferenceSession()
    await bindTensors(reference, [program], tensors)
    await withSession(backend, async (session) => {
      await bindTensors(session, [program], tensors)
      const exe = await session.compile(program)
      for (const position of [4, 5, 6]) {
        const ids = Int32Array.from({ length: s.batch }, (_, i) => position * 3 + i)
        const at = new Int32Array(s.batch).fill(position)
        const feeds = { ids, positions: at, lengths: at }
        const exact = Object.fromEntries(Object.entries(feeds).map(([k, v]) => [k, Float64Array.from(v)]))
        const expected = reference.evaluate(program, exact)
        const actual = await exe.run(feeds)
        expectNear(`decode at ${position}`, actual.logits, expected.logits, tolerances.bf16Model)
      }
      const cache = await session.read('cache.0.key')
      expectNear('key cache', toFloat64(cache), (await reference.read('cache.0.key')).data, tolerances.bf16Model)
    })
  },
})

/** Whole-model checks. `make` creates the backend with weights packed or resident, as graphs or kernel by kernel. */
export function parityChecks(make: (o: Partial<CudaOptions>) => Backend): Check[] {
  const s = smallDecoder
  const exact = gradientCheck(
    'a small f32 decoder: loss and all adapter gradients',
    { ...s, dtype: 'f32' },
    tolerances.f32Model,
  )
  return [
    { ...exact, run: () => exact.run(make({ compute: 'program' })) },
    gradientCheck('a small f32 decoder computed in bf16', { ...s, dtype: 'f32' }, tolerances.bf16Model),
    gradientCheck('a small bf16 decoder: loss and all adapter gradients', s),
    gradientCheck('a small bf16 decoder with checkpointing', { ...s, checkpoint: true }),
    gradientCheck('heads of 96 and one key-value head', {
      ...s,
      heads: 2,
      kvHeads: 1,
      headDim: 96,
      batch: 1,
      tokens: 33,
    }),
    decodeCheck('decoding three tokens of one text', { ...s, batch: 1, tokens: 1, capacity: 12, segments: false }),
    decodeCheck('decoding three tokens', { ...s, batch: 3, tokens: 1, capacity: 12, segments: false }),
    decodeCheck('decoding three tokens of a large batch', {
      ...s,
      batch: 64,
      tokens: 1,
      capacity: 12,
      segments: false,
    }),
    decodeCheck('decoding with f32 caches', { ...s, dtype: 'f32', batch: 3, tokens: 1, capacity: 12, segments: false }),
    {
      title: 'packed and resident weights, graphs and single kernels, queued runs and a resumed run: equal bits',
      async run() {
        const baseline = await trained(make({ nf4: 'packed', graphs: false }), s, [1, 2, 3, 4])
        expectSameBits('graphs', baseline, await trained(make({ nf4: 'packed', graphs: true }), s, [1, 2, 3, 4]))
        expectSameBits('resident', baseline, await trained(make({ nf4: 'resident', graphs: true }), s, [1, 2, 3, 4]))
      },
    },
  ]
}
