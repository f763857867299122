import { quantizeNf4 } from '@mirastral/quant'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  add,
  cachedAttention,
  f32,
  Graph,
  i32,
  linear,
  mul,
  nf4,
  ortBackend,
  printProgram,
  ReferenceSession,
  scale,
  sum,
} from '../../index.js'
import type { Session } from '../backend.js'
import { expectAllClose, TestRandom, tolerances } from '../../testing/index.js'
import { programToOnnx } from './backend.js'

const floats = (...list: number[]) => Float32Array.from(list)

describe('a session on ONNX Runtime', () => {
  let session: Session
  beforeEach(async () => {
    session = await ortBackend({ threads: 1, worker: false }).createSession()
  })
  afterEach(async () => {
    await session.dispose()
  })

  test('keeps states between runs and shares them between programs', async () => {
    const step = new Graph('step')
    const total = step.state('total', f32(2))
    step.update(total, add(total, step.input('x', f32(2))))
    step.output('before', total)
    const reset = new Graph('reset')
    reset.update(reset.state('total', f32(2)), scale(reset.state('total', f32(2)), 0))
    await session.bind('total', { type: f32(2), data: floats(1, 2) })
    const [run, clear] = [await session.compile(step.build()), await session.compile(reset.build())]
    await run.run({ x: floats(10, 20) })
    const { before } = await run.run({ x: floats(100, 200) })
    expect([...before]).toEqual([11, 22])
    expect([...(await session.read('total')).data]).toEqual([111, 222])
    await clear.run({})
    expect([...(await session.read('total')).data]).toEqual([0, 0])
  })

  test('runs one program on several sets of states, each filled up to a row of its own', async () => {
    const g = new Graph('two')
    const lengths = ['a', 'b'].map((name) => g.input(`length.${name}`, i32(1)))
    const x = g.input('x', f32(1, 1, 1, 2))
    const total = g.state('sum.all', f32(1, 1, 1, 2))
    const outs = ['a', 'b'].map((name, n) => {
      const [keyCache, valueCache] = ['k', 'v'].map((kind) => g.state(`${name}.${kind}`, f32(4, 1, 1, 2)))
      g.append(keyCache, x, lengths[n])
      g.append(valueCache, x, lengths[n])
      return cachedAttention([x, x, x], { keyCache, valueCache, lengths: lengths[n], scale: 1 })
    })
    g.update(total, add(total, add(outs[0], outs[1])))
    g.output('y', add(outs[0], outs[1]))
    const program = g.build()
    const reference = new ReferenceSession()
    const sessions = [session, reference]
    for (const s of sessions) {
      for (const name of ['one.k', 'one.v', 'two.k', 'two.v', 'three.k', 'three.v']) {
        const data = Float32Array.from({ length: 8 }, (_, i) => Math.sin(i + name.length))
        await s.bind(name, { type: f32(4, 1, 1, 2), data })
      }
      for (const name of ['p.all', 'q.all']) await s.bind(name, { type: f32(1, 1, 1, 2), data: floats(0, 0) })
    }
    const [ours, exact] = [await session.compile(program), await reference.compile(program)]
    const runs = [
      { a: 1, b: 3, names: { 'a.': 'one.', 'b.': 'two.', 'sum.': 'p.' } },
      { a: 2, b: 2, names: { 'a.': 'three.', 'b.': 'one.', 'sum.': 'q.' } },
      { a: 0, b: 3, names: { 'a.': 'two.', 'b.': 'three.', 'sum.': 'p.' } },
    ]
    for (const { a, b, names } of runs) {
      const feeds = { x: floats(0.3, -0.7), 'length.a': Int32Array.of(a), 'length.b': Int32Array.of(b) }
      const [got, expected] = [(await ours.run(feeds, names)).y, (await exact.run(feeds, names)).y]
      expectAllClose('y', got, expected, tolerances.f32)
    }
    for (const name of ['one.k', 'three.v', 'p.all', 'q.all']) {
      const [got, expected] = [await session.read(name), await reference.read(name)]
      expectAllClose(name, got.data, expected.data, tolerances.f32)
    }
    await expect(
      ours.run({ x: floats(0, 0), 'length.a': Int32Array.of(0), 'length.b': Int32Array.of(0) }),
    ).rejects.toThrow("state 'sum.all' f32[1,1,1,2] is not bound")
  })

  test('copies what it binds unless the caller hands it over', async () => {
    const data = floats(1, 2)
    await session.bind('w', { type: f32(2), data })
    data[0] = 99
    expect([...(await session.read('w')).data]).toEqual([1, 2])
  })

  test('takes a constant bound anew', async () => {
    const g = new Graph('g')
    g.output('y', add(g.constant('w', f32(1)), g.input('x', f32(1))))
    await session.bind('w', { type: f32(1), data: floats(1) })
    const run = await session.compile(g.build())
    expect([...(await run.run({ x: floats(1) })).y]).toEqual([2])
    await session.bind('w', { type: f32(1), data: floats(5) })
    expect([...(await run.run({ x: floats(1) })).y]).toEqual([6])
  })

  test('widens half-precision constants', async () => {
    await session.bind('b', { type: { dtype: 'bf16', shape: [2] }, data: Uint16Array.of(0x3f80, 0xc020) })
    await session.bind('h', { type: { dtype: 'f16', shape: [2] }, data: Uint16Array.of(0x3c00, 0x0001) })
    expect([...(await session.read('b')).data]).toEqual([1, -2.5])
    expect([...(await session.read('h')).data]).toEqual([1, 2 ** -24])
  })

  test('says what is wrong with the feeds and the bindings', async () => {
    const g = new Graph('g')
    g.output('y', add(g.constant('w', f32(2)), g.input('x', f32(2))))
    const run = await session.compile(g.build())
    await expect(run.run({ x: floats(1, 2) })).rejects.toThrow("run g: constant 'w' f32[2] is not bound")
    await session.bind('w', { type: f32(3), data: floats(1, 2, 3) })
    await expect(run.run({ x: floats(1, 2) })).rejects.toThrow("run g: constant 'w' is f32[2], bound is f32[3]")
    await session.bind('w', { type: f32(2), data: floats(1, 2) })
    await expect(run.run({ x: floats(1) })).rejects.toThrow("run g: input 'x' is f32[2], got 1 elements")
    await expect(run.run({})).rejects.toThrow("run g: input 'x' f32[2] is missing")
    await expect(run.run({ x: floats(1, 2), z: floats(1) })).rejects.toThrow(
      'run g: no such input: z; the inputs are x',
    )
    await expect(session.read('nothing')).rejects.toThrow("read: nothing is bound as 'nothing'")
  })

  test('appends rows to a cache at each sequence own length', async () => {
    const g = new Graph('decode')
    const [q, k, v] = ['q', 'k', 'v'].map((name) => g.input(name, f32(2, 1, 1, 2)))
    const lengths = g.input('lengths', i32(2))
    const [keyCache, valueCache] = ['keys', 'values'].map((name) => g.state(name, f32(4, 2, 1, 2)))
    g.output('o', cachedAttention([q, k, v], { keyCache, valueCache, lengths, scale: 1 }))
    g.append(keyCache, k, lengths)
    g.append(valueCache, v, lengths)
    const program = g.build()
    const reference = new ReferenceSession()
    const random = new TestRandom('cache')
    for (const name of ['keys', 'values']) {
      await session.bind(name, { type: f32(4, 2, 1, 2), data: new Float32Array(16) })
      reference.bindExact(name, f32(4, 2, 1, 2), new Float64Array(16))
    }
    const run = await session.compile(program)
    for (const start of [
      [0, 0],
      [1, 0],
      [2, 1],
    ]) {
      const draw = () => Float32Array.from({ length: 4 }, () => random.normal())
      const feeds = { q: draw(), k: draw(), v: draw() }
      const { o } = await run.run({ ...feeds, lengths: Int32Array.from(start) })
      const exact = Object.fromEntries(Object.entries(feeds).map(([name, data]) => [name, Float64Array.from(data)]))
      const expected = reference.evaluate(program, { ...exact, lengths: Float64Array.from(start) })
      expectAllClose('o', o, expected.o, tolerances.f32)
      expectAllClose('keys', (await session.read('keys')).data, (await reference.read('keys')).data, tolerances.exact)
    }
  })

  test('runs nf4 weights packed and dense with equal results', async () => {
    const random = new TestRandom('nf4')
    const weight = quantizeNf4(
      Float32Array.from({ length: 64 * 128 }, () => random.normal()),
      { shape: [64, 128] },
    )
    const x = Float32Array.from({ length: 3 * 128 }, () => random.normal())
    const g = new Graph('g')
    g.output('y', linear(g.input('x', f32(3, 128)), g.constant('w', nf4([64, 128]))))
    const program = g.build()
    const dense = await ortBackend({ threads: 1, worker: false, nf4: 'dense' }).createSession()
    const results = []
    for (const s of [session, dense]) {
      await s.bind('w', weight)
      results.push(await (await s.compile(program)).run({ x }))
    }
    expectAllClose('packed against dense', results[0].y, results[1].y, tolerances.f32)
    await dense.dispose()
  })

  test('gives the same bits for the same run', async () => {
    const g = new Graph('g')
    const x = g.input('x', f32(64, 64))
    g.output('y', sum(mul(linear(x, x), x)))
    const run = await session.compile(g.build())
    const random = new TestRandom('bits')
    const data = Float32Array.from({ length: 64 * 64 }, () => random.normal())
    const [a, b] = [await run.run({ x: data }), await run.run({ x: data })]
    expect(a.y).toEqual(b.y)
  })

  test('refuses half-precision programs and disposed executables', async () => {
    const g = new Graph('half')
    const x = g.input('x', { dtype: 'bf16', shape: [2] })
    g.output('y', add(x, x))
    await expect(session.compile(g.build())).rejects.toThrow('the ort backend computes in float32, got bf16[2]')
    const h = new Graph('h')
    h.output('y', scale(h.input('x', f32(1)), 2))
    const run = await session.compile(h.build())
    await run.dispose()
    await expect(run.run({ x: floats(1) })).rejects.toThrow('has been disposed of')
    expect(printProgram(h.build())).toContain('scale')
  })
})

test('a program is written as an ONNX file', () => {
  const g = new Graph('double')
  g.output('y', scale(g.input('x', f32(2, 3)), 2))
  const bytes = programToOnnx(g.build())
  const text = new TextDecoder('latin1').decode(bytes)
  expect(bytes[0]).toBe(0x08)
  expect(text).toContain('mirastral')
  expect(text).toContain('in:x')
  expect(text).toContain('double')
})
