import { add, bf16, dropout, f32, grad, Graph, i32, linear, nf4, referenceBackend, sum } from '@mirastral/engine'
import type { TensorType, Value } from '@mirastral/engine'
import { describe, expect, it } from 'vitest'
import { adapterName, adapterTensors, parseLoraConfig, planLora, subtractedName, withLora } from '@mirastral/lora'
import type { LoraOptions, LoraPlan, ModuleInfo } from '@mirastral/lora'
import { expectClose } from './close.js'
import { caught } from './fixtures.js'

const [OUT, IN, RANK, ROWS] = [5, 4, 2, 3]
const modules: ModuleInfo[] = [
  { name: 'a.q_proj', kind: 'linear', shape: [OUT, IN], hasBias: true },
  { name: 'a.v_proj', kind: 'linear', shape: [OUT, IN], hasBias: true },
]
const plan = (options: LoraOptions, of = modules): LoraPlan =>
  planLora(parseLoraConfig({ r: RANK, loraAlpha: 3, ...options }), of)
const numbers = (count: number, of: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1 + i * of + of))

/** A forward context of linear layers with biases, whose weights are constants of the graph. */
function plainContext(graph: Graph, weight: TensorType = f32(OUT, IN)): Parameters<typeof withLora>[0] {
  const parameter = (name: string): Value => graph.constant(name, name.endsWith('.weight') ? weight : f32(OUT))
  return {
    graph,
    parameter,
    linear: (name, x) => add(linear(x, parameter(`${name}.weight`)), parameter(`${name}.bias`)),
  }
}

const data = {
  x: numbers(ROWS * IN, 0.7),
  weight: numbers(OUT * IN, 0.3),
  bias: numbers(OUT, 2.1),
  a: numbers(RANK * IN, 1.1),
  b: numbers(OUT * RANK, 1.7),
  a0: numbers(RANK * IN, 0.4),
  b0: numbers(OUT * RANK, 0.9),
  loraBias: numbers(OUT, 0.6),
  magnitude: numbers(OUT, 0.2).map((m) => 2 + m),
}
const key = (part: string): string => `base_model.model.a.q_proj.${part}`
const partData: Record<string, Float32Array> = {
  [key('lora_A.weight')]: data.a,
  [key('lora_B.weight')]: data.b,
  [key('lora_B.bias')]: data.loraBias,
  [key('lora_magnitude_vector')]: data.magnitude,
}

/** The output of `a.q_proj` for the data above, and the input after the dropout of its first site. */
async function run(options: LoraOptions, seed?: Int32Array): Promise<{ y: Float32Array; dropped: Float32Array }> {
  const adapter = plan({ targetModules: ['q_proj'], ...options })
  const g = new Graph()
  const x = g.input('x', f32(ROWS, IN))
  const seedInput = seed === undefined ? null : g.input('seed', i32(2))
  const dropoutSeeds = seedInput === null ? [] : [seedInput]
  g.output('y', withLora(plainContext(g), adapter, { dropoutSeeds }).linear('a.q_proj', x))
  g.output('dropped', seedInput === null ? x : dropout(x, seedInput, { p: adapter.config.loraDropout, stream: 0 }))
  const session = await referenceBackend().createSession()
  await session.bind('a.q_proj.weight', { type: f32(OUT, IN), data: data.weight })
  await session.bind('a.q_proj.bias', { type: f32(OUT), data: data.bias })
  for (const [name, shape] of adapterTensors(adapter)) {
    await session.bind(adapterName(name), { type: f32(...shape), data: partData[name] })
  }
  await session.bind(subtractedName(key('lora_A.weight')), { type: f32(RANK, IN), data: data.a0 })
  await session.bind(subtractedName(key('lora_B.weight')), { type: f32(OUT, RANK), data: data.b0 })
  const executable = await session.compile(g.build())
  const result = await executable.run({ x: data.x, ...(seed === undefined ? {} : { seed }) })
  await session.dispose()
  return { y: result.y as Float32Array, dropped: result.dropped as Float32Array }
}

type Matrix = readonly (readonly number[])[]
const rowsOf = (values: ArrayLike<number>, width: number): Matrix =>
  Array.from({ length: values.length / width }, (_, i) =>
    Array.from({ length: width }, (_v, j) => values[i * width + j]),
  )
/** `x wᵀ` */
const times = (x: Matrix, w: Matrix): number[][] => x.map((r) => w.map((c) => c.reduce((s, v, i) => s + v * r[i], 0)))
const combine = (f: (...values: number[]) => number, ...m: Matrix[]): number[][] =>
  m[0].map((r, i) => r.map((_, j) => f(...m.map((other) => other[i][j]))))

const w = rowsOf(data.weight, IN)
const plainOf = (x: Float32Array): number[][] => times(rowsOf(x, IN), w)
const lowRankOf = (x: Float32Array, a: Float32Array, b: Float32Array): number[][] =>
  times(times(rowsOf(x, IN), rowsOf(a, IN)), rowsOf(b, RANK))
const biasRows = rowsOf(Array.from({ length: ROWS }, () => [...data.bias]).flat(), OUT)
const seed = Int32Array.of(11, 5)

describe('an adapted linear layer', () => {
  it('adds scaling B A x to the base', async () => {
    const { y } = await run({})
    const expected = combine((p, b, u) => p + b + 1.5 * u, plainOf(data.x), biasRows, lowRankOf(data.x, data.a, data.b))
    expectClose('y', y, expected.flat(), 1e-6)
  })

  it('scales by alpha over the root of the rank when rank-stabilised, the bias of B too', async () => {
    const { y } = await run({ useRslora: true, loraBias: true })
    const scaling = 3 / Math.sqrt(RANK)
    const biases = rowsOf(Array.from({ length: ROWS }, () => [...data.loraBias]).flat(), OUT)
    const parts = [plainOf(data.x), biasRows, lowRankOf(data.x, data.a, data.b), biases]
    expectClose('y', y, combine((p, b, u, c) => p + b + scaling * (u + c), ...parts).flat(), 1e-6)
  })

  it('drops only the input of A, and only when given a seed', async () => {
    const quiet = await run({ loraDropout: 0.5 })
    expect(quiet.y).toEqual((await run({})).y)
    const { y, dropped } = await run({ loraDropout: 0.5 }, seed)
    expect(dropped.some((value, i) => value === 0 && data.x[i] !== 0)).toBe(true)
    const expected = combine(
      (p, b, u) => p + b + 1.5 * u,
      plainOf(data.x),
      biasRows,
      lowRankOf(dropped, data.a, data.b),
    )
    expectClose('y', y, expected.flat(), 1e-6)
  })

  it('takes the initial product off the base without dropping it', async () => {
    const { y, dropped } = await run({ loraDropout: 0.5, initLoraWeights: 'pissa' }, seed)
    const parts = [plainOf(data.x), biasRows, lowRankOf(dropped, data.a, data.b), lowRankOf(data.x, data.a0, data.b0)]
    expectClose('y', y, combine((p, b, u, v) => p + b + 1.5 * u - 1.5 * v, ...parts).flat(), 1e-6)
  })

  it.each([false, true])(
    'gives each row of W the magnitude of DoRA, and leaves the bias alone (dropout: %s)',
    async (drop) => {
      const { y, dropped } = await run({ useDora: true, loraDropout: drop ? 0.5 : 0 }, drop ? seed : undefined)
      const merged = combine((v, u) => v + 1.5 * u, w, times(rowsOf(data.b, RANK), transposed(rowsOf(data.a, IN))))
      const factors = merged.map((r, i) => data.magnitude[i] / Math.hypot(...r))
      const factorRows = Array.from({ length: ROWS }, () => factors)
      const parts = [plainOf(data.x), biasRows, factorRows, plainOf(dropped), lowRankOf(dropped, data.a, data.b)]
      expectClose('y', y, combine((p, b, f, d, u) => p + b + (f - 1) * d + f * 1.5 * u, ...parts).flat(), 1e-6)
    },
  )
})

const transposed = (m: Matrix): number[][] => m[0].map((_, j) => m.map((r) => r[j]))

describe('a forward pass with an adapter', () => {
  it('uses the trained copy of a module trained in full, its bias too, and leaves other modules alone', async () => {
    const adapter = plan({ targetModules: ['v_proj'], modulesToSave: ['q_proj'] })
    const g = new Graph()
    const x = g.input('x', f32(ROWS, IN))
    const ctx = withLora(plainContext(g), adapter, { role: 'constant' })
    g.output('y', ctx.linear('a.q_proj', x))
    g.output('other', ctx.linear('a.k_proj', x))
    expect(ctx.parameter('a.q_proj.weight')).toBe(ctx.trainable.get(key('weight')))
    const session = await referenceBackend().createSession()
    await session.bind(adapterName(key('weight')), { type: f32(OUT, IN), data: data.weight })
    await session.bind(adapterName(key('bias')), { type: f32(OUT), data: data.bias })
    await session.bind('a.k_proj.weight', { type: f32(OUT, IN), data: data.weight.map((v) => 2 * v) })
    await session.bind('a.k_proj.bias', { type: f32(OUT), data: new Float32Array(OUT) })
    const executable = await session.compile(g.build())
    const { y, other } = await executable.run({ x: data.x })
    expectClose('y', y, combine((p, b) => p + b, plainOf(data.x), biasRows).flat(), 1e-6)
    expectClose(
      'other',
      other,
      plainOf(data.x)
        .flat()
        .map((v) => 2 * v),
      1e-6,
    )
    await session.dispose()
  })

  it.each([
    ['plain', {}],
    ['DoRA', { useDora: true }],
    ['PiSSA', { initLoraWeights: 'pissa' }],
    ['a bias of B', { loraBias: true }],
    ['a module in full', { modulesToSave: ['v_proj'] }],
  ] as const)('fits activations in 16 bits over 4-bit weights: %s', (_name, options) => {
    const wide = modules.map((m) => ({ name: m.name, kind: m.kind, shape: [64, 64] }))
    const adapter = plan({ targetModules: ['q_proj'], loraDropout: 0.1, ...options }, wide)
    const g = new Graph()
    const parameter = (name: string): Value => g.constant(name, nf4([64, 64]))
    const base = { graph: g, parameter, linear: (name: string, x: Value) => linear(x, parameter(`${name}.weight`)) }
    const ctx = withLora(base, adapter, { dropoutSeeds: [g.input('seed', i32(2))] })
    const y = ctx.linear('a.v_proj', ctx.linear('a.q_proj', g.input('x', bf16(2, 64))))
    expect(y.type).toEqual(bf16(2, 64))
    const gradients = grad(sum(y), [...ctx.trainable.values()])
    gradients.forEach((value, i) => g.output(`grad${i}`, value))
    expect(gradients.map((value) => value.type)).toEqual([...ctx.trainable.values()].map((value) => value.type))
    expect(g.build().outputs).toHaveLength(adapterTensors(adapter).size)
  })

  it('refuses what it has no place for', async () => {
    const head: ModuleInfo[] = [
      { name: 'model.embed_tokens', kind: 'embedding', shape: [8, 4], tied: true },
      { name: 'lm_head', kind: 'linear', shape: [8, 4], isOutput: true, tied: true },
      ...modules,
    ]
    const saved = plan({ targetModules: ['q_proj'], modulesToSave: ['lm_head'] }, head)
    const error = await caught(() => withLora(plainContext(new Graph()), saved))
    expect(error).toMatchObject({ code: 'MIRASTRAL_LORA_TARGET', exitCode: 2 })
    expect(error.message).toContain('modulesToSave: lm_head shares its weight with the other embedding')
    const targeted = plan({ targetModules: ['lm_head'] }, head)
    expect((await caught(() => withLora(plainContext(new Graph()), targeted))).message).toContain(
      'lm_head cannot carry',
    )
  })
})
