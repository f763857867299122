import { ReferenceSession } from '../../src/backends/reference/backend.js'
import { Graph } from '../../src/ir/graph.js'
import type { Program } from '../../src/ir/program.js'
import { f32, i32, sizeOf } from '../../src/ir/tensor-type.js'
import { cachedAttention } from '../../src/ops/cached-attention.js'
import { add } from '../../src/ops/elementwise.js'
import { expectAllClose, TestRandom, tolerances } from '../../src/testing/index.js'
import type { Check } from './checks.js'

const query = f32(1, 1, 4, 64)
const row = f32(1, 1, 2, 64)
const cache = f32(16, 1, 2, 64)

/** One step of two texts, each with a cache of its own, and a sum over all steps. */
function twoTexts(): Program {
  const g = new Graph('two texts')
  const outs = ['a', 'b'].map((name) => {
    const length = g.input(`length.${name}`, i32(1))
    const [keyCache, valueCache] = ['k', 'v'].map((kind) => g.state(`${name}.${kind}`, cache))
    const [key, value] = ['k', 'v'].map((kind) => g.input(`${kind}.${name}`, row))
    g.append(keyCache, key, length)
    g.append(valueCache, value, length)
    const q = g.input(`q.${name}`, query)
    return cachedAttention([q, key, value], { keyCache, valueCache, lengths: length, scale: 0.125 })
  })
  const total = g.state('sum.all', query)
  const both = add(outs[0], outs[1])
  g.update(total, add(total, both))
  g.output('y', both)
  return g.build()
}

const sets = [
  { 'a.': 'one.', 'b.': 'two.', 'sum.': 'p.' },
  { 'a.': 'three.', 'b.': 'one.', 'sum.': 'q.' },
  { 'a.': 'two.', 'b.': 'three.', 'sum.': 'p.' },
]

/** A program is run with several sets of states in turn: enqueued, recorded, replayed, and again after tensors moved. */
export const stateSetCheck: Check = {
  title: 'one program works on several sets of states',
  async run(backend) {
    const random = new TestRandom('state sets')
    const normals = (count: number) => Float32Array.from({ length: count }, () => random.normal())
    const [session, reference] = [await backend.createSession(), new ReferenceSession()]
    const program = twoTexts()
    const caches = ['one', 'two', 'three'].flatMap((name) => [`${name}.k`, `${name}.v`])
    for (const [names, type] of [
      [caches, cache],
      [['p.all', 'q.all'], query],
    ] as const)
      // prettier-ignore
      for (const name of names) {
        const data = normals(sizeOf(type.shape))
        for (const s of [session, reference]) await s.bind(name, { type, data })
      }
    const [ours, exact] = [await session.compile(program), await reference.compile(program)]
    for (let step = 0; step < 12; step++) {
      const feeds = Object.fromEntries(
        program.inputs.flatMap(({ name, role, value }) => {
          if (role !== 'input') return []
          const { shape, dtype } = program.types[value]
          return [[name, dtype === 'i32' ? Int32Array.of(step) : normals(sizeOf(shape))]]
        }),
      )
      const names = sets[step % 3]
      const [got, expected] = [await ours.run(feeds, names), await exact.run(feeds, names)]
      expectAllClose(`step ${step}`, got.y, expected.y, tolerances.f32)
      // What a program has resolved is stale once a tensor is gone.
      await session.bind('other', { type: row, data: new Float32Array(128) })
      if (step === 7) await session.unbind('other')
    }
    for (const name of [...caches, 'p.all', 'q.all']) {
      const [got, expected] = [await session.read(name), await reference.read(name)]
      expectAllClose(name, got.data, expected.data, tolerances.f32)
    }
    await session.dispose()
  },
}
