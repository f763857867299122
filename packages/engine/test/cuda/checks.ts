import type { Backend, Executable, HostTensor, Session, TensorData } from '../../src/backends/backend.js'
import { isNf4 } from '../../src/backends/backend.js'
import { ReferenceSession, toFloat64 } from '../../src/backends/reference/backend.js'
import type { Program } from '../../src/ir/program.js'
import { bf16, f16, f32, i32, isFloat, nf4, sizeOf, type DType, type TensorType } from '../../src/ir/tensor-type.js'
import { bf16Bits, bf16Value, f16Bits, f16Value } from '../../src/numerics.js'
import { Graph } from '../../src/ir/graph.js'
import { grad } from '../../src/autodiff/grad.js'
import { attention } from '../../src/ops/attention.js'
import { add, cast, mul } from '../../src/ops/elementwise.js'
import { cachedAttention } from '../../src/ops/cached-attention.js'
import { linearCrossEntropy } from '../../src/ops/loss.js'
import { opByName } from '../../src/ops/index.js'
import { linear, matmul } from '../../src/ops/matmul.js'
import { rmsNorm } from '../../src/ops/norm.js'
import { rope } from '../../src/ops/rope.js'
import { sum } from '../../src/ops/reduce.js'
import { swiglu } from '../../src/ops/activation.js'
import { quantizeNf4 } from '@mirastral/quant'
import { allSamples, checkBackend, TestRandom, toleranceOf, type Tolerance } from '../../src/testing/index.js'

/** A check that throws where the backend is wrong. */
export interface Check {
  readonly title: string
  run(backend: Backend): Promise<void>
}

/** |actual - expected| over |expected| as vectors; `floor` is the norm per element below which differences are absolute. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>, floor = 1e-2): number {
  let [difference, norm] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2
    norm += expected[i] ** 2
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), floor * Math.sqrt(expected.length))
}

export function expectNear(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): void {
  const error = relativeError(actual, expected)
  if (actual.length !== expected.length)
    throw new Error(`${label}: ${actual.length} elements, expected ${expected.length}`)
  if (!(error <= tolerance.relative))
    throw new Error(`${label}: relative error ${error}, allowed ${tolerance.relative}`)
}

/** Values that the dtype holds exactly. */
export function roundTo(dtype: DType, x: number): number {
  if (dtype === 'bf16') return bf16Value(bf16Bits(x))
  return dtype === 'f16' ? f16Value(f16Bits(x)) : Math.fround(x)
}

/** A random tensor of a type; integers need a range. */
export function randomTensor(
  type: TensorType,
  random: TestRandom,
  range: readonly [number, number] = [0, 1],
  std = 1,
): HostTensor {
  if (type.dtype === 'nf4') {
    const data = Float32Array.from({ length: sizeOf(type.shape) }, () => std * random.normal())
    return quantizeNf4(data, { blockSize: type.blockSize ?? 64, shape: [...type.shape] })
  }
  if (type.dtype === 'i32') {
    return {
      type,
      data: Int32Array.from(
        { length: sizeOf(type.shape) },
        () => range[0] + Math.floor((range[1] - range[0]) * random.uniform()),
      ),
    }
  }
  const values = Float32Array.from({ length: sizeOf(type.shape) }, () => roundTo(type.dtype, std * random.normal()))
  if (type.dtype === 'bf16') return { type, data: Uint16Array.from(values, bf16Bits) }
  return type.dtype === 'f16' ? { type, data: Uint16Array.from(values, f16Bits) } : { type, data: values }
}

export const dataOf = (tensor: HostTensor): TensorData => {
  if (isNf4(tensor)) throw new Error('an nf4 tensor cannot be fed')
  const { dtype } = tensor.type
  return dtype === 'bf16' || dtype === 'f16' ? Float32Array.from(toFloat64(tensor)) : tensor.data
}

/** Runs a program three times: the first runs kernel by kernel, the later ones as a graph, and all must agree. */
async function runTwice(exe: Executable, feeds: Record<string, TensorData>, label: string) {
  const results = [await exe.run(feeds), await exe.run(feeds), await exe.run(feeds)]
  for (const [name, first] of Object.entries(results[0])) {
    const same = results.every((r) => r[name].every((x, i) => Object.is(x, first[i])))
    if (!same) throw new Error(`${label}: ${name} differs between runs of the same program`)
  }
  return results[0]
}

/** Compares a program without updates with the reference, on random tensors or the given ones. */
export async function compareProgram(
  backend: Backend,
  program: Program,
  given: ReadonlyMap<string, HostTensor>,
  tolerance: Tolerance,
): Promise<void> {
  const session: Session = await backend.createSession()
  const reference = new ReferenceSession()
  const random = new TestRandom(program.name)
  try {
    const feeds: Record<string, TensorData> = {}
    const exact: Record<string, Float64Array> = {}
    for (const input of program.inputs) {
      const tensor = given.get(input.name) ?? randomTensor(program.types[input.value], random)
      if (input.role === 'input') {
        feeds[input.name] = dataOf(tensor)
        exact[input.name] = toFloat64(tensor)
      } else {
        await session.bind(input.name, tensor)
        await reference.bind(input.name, tensor)
      }
    }
    const exe = await session.compile(program)
    const actual = await runTwice(exe, feeds, program.name)
    const expected = reference.evaluate(program, exact)
    for (const [name, values] of Object.entries(expected))
      expectNear(`${program.name} ${name}`, actual[name], values, tolerance)
  } finally {
    await session.dispose()
  }
}

/** Row statistics and cotangents of losses, which programs always hold in float32. */
const FLOAT32_INPUTS: Readonly<Record<string, number>> = {
  rmsNormBackward: 3,
  crossEntropyBackward: 0,
  linearCrossEntropyBackward: 0,
}

/** The same program with 16-bit floats wherever the ops allow it; null where an op insists on float32. */
function narrowed(program: Program, dtype: DType): Program | null {
  const narrow = (type: TensorType): TensorType =>
    type.dtype === 'f32' && type.shape.length > 0 ? { ...type, dtype } : type
  const g = new Graph(`${program.name} ${dtype}`)
  const [node] = program.nodes
  if (program.nodes.length !== 1) return null
  try {
    const def = registry(node.op)
    const exact = FLOAT32_INPUTS[node.op]
    const inputs = program.inputs.map((i, at) => {
      const type = program.types[i.value]
      return g[i.role](i.name, at === exact ? type : narrow(type))
    })
    g.apply(def, inputs, node.attrs).forEach((value, i) => g.output(`y${i}`, value))
    return g.build()
  } catch {
    return null
  }
}

function registry(name: string) {
  const def = opByName(name)
  if (!def) throw new Error(`no op ${name}`)
  return def
}

function sampleChecks(): Check[] {
  return allSamples().map((sample) => ({
    title: `f32 ${sample.title}`,
    run: (backend) => checkBackend(backend, sample),
  }))
}

/** Random 16-bit inputs within the domain of the sample's own values. */
function narrowChecks(dtype: 'bf16' | 'f16'): Check[] {
  return allSamples().flatMap((sample) => {
    const program = narrowed(sample.forward, dtype)
    const inexact = ['equal', 'greater', 'cast'].some((op) => sample.title.startsWith(`${op}:`))
    const overflows = dtype === 'f16' && sample.title.includes('large')
    if (!program || inexact || overflows) return []
    const given = new Map(
      sample.tensors.map((t) => {
        const type = program.types[program.inputs.find((i) => i.name === t.name)?.value ?? 0]
        if (!isFloat(type.dtype) || type.dtype === 'f32') return [t.name, t.host] as const
        const bits = dtype === 'bf16' ? bf16Bits : f16Bits
        return [t.name, { type, data: Uint16Array.from(t.exact, bits) }] as const
      }),
    )
    return [
      {
        title: `${dtype} ${sample.title}`,
        run: (backend: Backend) => compareProgram(backend, program, given, toleranceOf(dtype)),
      },
    ]
  })
}

export interface AttentionCase {
  readonly batch: number
  readonly tokens: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly window: number
  readonly segments: boolean
  readonly dtype: 'bf16' | 'f16'
}

const attentionCase = (o: Partial<AttentionCase>): AttentionCase => ({
  ...{ batch: 1, tokens: 130, heads: 6, kvHeads: 3, headDim: 64, window: 0, segments: false, dtype: 'bf16' },
  ...o,
})

/** Forward and all gradients of tensor-core attention at awkward shapes. */
export const attentionCases: readonly AttentionCase[] = [
  attentionCase({}),
  attentionCase({ headDim: 96, tokens: 67 }),
  attentionCase({ headDim: 128, heads: 4, kvHeads: 1, tokens: 200 }),
  attentionCase({ headDim: 128, heads: 2, kvHeads: 2, tokens: 1, batch: 2 }),
  attentionCase({ headDim: 80, tokens: 65, heads: 2, kvHeads: 1, dtype: 'f16' }),
  attentionCase({ window: 50, tokens: 300, heads: 2, kvHeads: 1 }),
  attentionCase({ window: 7, tokens: 129, heads: 2, kvHeads: 1, headDim: 128, segments: true }),
  attentionCase({ segments: true, batch: 2, tokens: 190 }),
  attentionCase({ segments: true, tokens: 577, heads: 2, kvHeads: 1, headDim: 128 }),
]

function attentionProgram(c: AttentionCase): Program {
  const g = new Graph(`attention ${JSON.stringify(c)}`)
  const type = (heads: number): TensorType => ({ dtype: c.dtype, shape: [c.batch, c.tokens, heads, c.headDim] })
  const [q, k, v] = [g.input('q', type(c.heads)), g.input('k', type(c.kvHeads)), g.input('v', type(c.kvHeads))]
  const segments = c.segments ? g.input('segments', i32(c.batch, c.tokens)) : null
  const o = attention(q, k, v, { scale: c.headDim ** -0.5, slidingWindow: c.window, segments })
  const dO = g.input('dO', type(c.heads))
  const loss = sum(cast(mul(o, dO), 'f32'))
  g.output('o', o)
  grad(loss, [q, k, v]).forEach((value, i) => g.output(`d${'qkv'[i]}`, value))
  return g.build()
}

function attentionCheck(c: AttentionCase): Check {
  const perRow = Array.from({ length: c.tokens }, (_, i) => (i > c.tokens * 0.9 ? 0 : 1 + Math.floor(i / 37)))
  const ids = Int32Array.from({ length: c.batch * c.tokens }, (_, i) => perRow[i % c.tokens])
  const given = new Map<string, HostTensor>([['segments', { type: i32(c.batch, c.tokens), data: ids }]])
  return {
    title: `flash attention ${JSON.stringify(c)}`,
    run: (backend) => compareProgram(backend, attentionProgram(c), given, toleranceOf('bf16')),
  }
}

/** A program of one op at a size where the fast path of its kernel runs. */
function program(name: string, build: (g: Graph) => void): Program {
  const g = new Graph(name)
  build(g)
  return g.build()
}

function productChecks(): Check[] {
  const one = (p: Program, given = new Map<string, HostTensor>()): Check => ({
    title: p.name,
    run: (b) => compareProgram(b, p, given, toleranceOf('bf16')),
  })
  const matvecs = [1, 2, 3, 5, 8, 9].map((rows) =>
    one(
      program(`nf4 product of ${rows} rows`, (g) =>
        g.output('y', linear(g.input('x', bf16(rows, 288)), g.constant('w', nf4([131, 288])), { alpha: 0.5 })),
      ),
    ),
  )
  const whole = [1, 4, 8].map((rows) =>
    one(
      program(`nf4 product of ${rows} rows in whole blocks`, (g) => {
        const y = linear(g.input('x', bf16(rows, 704)), g.constant('w', nf4([133, 704])), { alpha: 2 })
        g.output('y', add(g.input('z', bf16(rows, 133)), y))
        g.output('f16', linear(g.input('v', f16(rows, 128)), g.constant('u', nf4([16, 128], 128))))
      }),
    ),
  )
  const f16Rows = one(
    program('nf4 product of f16 rows', (g) =>
      g.output('y', linear(g.input('x', f16(2, 96)), g.constant('w', nf4([20, 96], 32)))),
    ),
  )
  const wide = one(
    program('an nf4 product and its backward', (g) => {
      const w = g.constant('w', nf4([256, 192]))
      const y = linear(g.input('x', bf16(40, 192)), w)
      g.output('y', y)
      g.output('back', linear(y, w, { transposeWeight: false }))
    }),
  )
  const gradient = one(
    program('a gradient in float32', (g) => {
      g.output(
        'd',
        cast(matmul(g.input('dy', bf16(100, 48)), g.input('x', bf16(100, 16)), { transposeA: true }), 'f32'),
      )
    }),
  )
  const odd = one(
    program('a product of odd sizes', (g) =>
      g.output('y', linear(g.input('x', bf16(7, 33)), g.constant('w', bf16(5, 33)))),
    ),
  )
  return [...matvecs, ...whole, f16Rows, wide, gradient, odd]
}

function layerChecks(): Check[] {
  const near = (p: Program, given = new Map<string, HostTensor>()): Check => ({
    title: p.name,
    run: (b) => compareProgram(b, p, given, toleranceOf('bf16')),
  })
  const targets: HostTensor = {
    type: i32(100),
    data: Int32Array.from({ length: 100 }, (_, i) => (i % 50 > 0 ? -100 : (i * 7919) % 49152)),
  }
  const head = near(
    program('a chunked head with a vocabulary of 49152', (g) => {
      const h = g.input('h', bf16(400, 32))
      const { loss } = linearCrossEntropy(h, g.constant('w', bf16(49152, 32)), g.input('targets', i32(400)))
      g.output('loss', loss)
      g.output('dh', grad(sum(loss), [h])[0])
    }),
    new Map([
      ['targets', { type: i32(400), data: Int32Array.from({ length: 400 }, (_, i) => dataOf(targets)[i % 100]) }],
    ]),
  )
  const positions: HostTensor = { type: i32(2, 5), data: Int32Array.of(0, 1, 2, 3, 4, 7, 6, 5, 1, 0) }
  const ropes = near(
    program('rope and rmsNorm at model widths', (g) => {
      const x = g.input('x', bf16(2, 5, 3, 128))
      const tables = {
        positions: g.input('positions', i32(2, 5)),
        cos: g.constant('cos', f32(8, 64)),
        sin: g.constant('sin', f32(8, 64)),
      }
      g.output('rope', rope(x, tables))
      const h = g.input('h', bf16(10, 4096))
      const y = rmsNorm(h, g.constant('weight', bf16(4096)), { eps: 1e-5 })
      g.output('norm', y)
      g.output('dh', grad(sum(cast(mul(y, g.input('dy', bf16(10, 4096))), 'f32')), [h])[0])
      const [gate, up] = [g.input('gate', bf16(3, 1003)), g.input('up', bf16(3, 1003))]
      g.output('swiglu', swiglu(gate, up))
    }),
    new Map([['positions', positions]]),
  )
  const cached = near(
    program('cached attention at model widths', (g) => {
      const [q, k, v] = [
        g.input('q', bf16(2, 3, 6, 128)),
        g.input('k', bf16(2, 3, 3, 128)),
        g.input('v', bf16(2, 3, 3, 128)),
      ]
      const caches = {
        keyCache: g.state('keys', bf16(100, 2, 3, 128)),
        valueCache: g.state('values', bf16(100, 2, 3, 128)),
      }
      g.output(
        'o',
        cachedAttention([q, k, v], { ...caches, lengths: g.input('lengths', i32(2)), scale: 0.09, slidingWindow: 60 }),
      )
    }),
    new Map<string, HostTensor>([['lengths', { type: i32(2), data: Int32Array.of(90, 0) }]]),
  )
  return [head, ropes, cached]
}

/** Every check, cheapest first. */
export const opChecks = (): Check[] => [
  ...sampleChecks(),
  ...narrowChecks('bf16'),
  ...narrowChecks('f16'),
  ...productChecks(),
  ...layerChecks(),
  ...attentionCases.map(attentionCheck),
]
