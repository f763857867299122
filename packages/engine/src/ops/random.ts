import type { Value } from '../ir/graph.js'
import { f32, i32 } from '../ir/tensor-type.js'
import { arity, at, defineOp, emit, expect, normal, sameFloat, values, type OpDef } from './define.js'

export type DropoutAttrs = {
  /** Probability of dropping an element, in [0, 1). */
  readonly p: number
  /** Tells the dropout sites of one program apart. */
  readonly stream: number
}

/** Weyl constant: 2^32 divided by the golden ratio. */
export const GOLDEN = 0x9e3779b9

/** The 32-bit mixer `lowbias32` (C. Wellons, "Prospecting for Hash Functions", 2018). */
export function mix32(x: number): number {
  let h = x >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d)
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b)
  return (h ^ (h >>> 16)) >>> 0
}

/** The key of a dropout site for a run: seed[0] and seed[1] come from the run, the stream from the site. */
export const dropoutKey = (seed0: number, seed1: number, stream: number): number =>
  mix32(seed0 + mix32(seed1 + Math.imul(stream, GOLDEN)))

/** Whether element `index` survives: a counter-based rule, so that the backward pass recomputes the same mask. */
export const survives = (key: number, index: number, p: number): boolean =>
  mix32(Math.imul(index, GOLDEN) ^ key) >= dropoutThreshold(p)

/** `p` as a fraction of 2^32. */
export const dropoutThreshold = (p: number): number => Math.floor(p * 2 ** 32)

/** Inverted dropout (Srivastava et al. 2014): survivors are scaled by 1 / (1 - p). */
const dropoutDef: OpDef<DropoutAttrs> = defineOp<DropoutAttrs>({
  name: 'dropout',
  infer(inputs, { p }) {
    arity('dropout', inputs, 2)
    sameFloat('dropout', inputs.slice(0, 1))
    const seed = at(inputs, 1)
    expect(seed.dtype === 'i32' && seed.shape.join() === '2', 'dropout', 'the seed must be i32[2]', inputs)
    expect(p >= 0 && p < 1, 'dropout', `p must be in [0, 1), is ${p}`, inputs)
    return [at(inputs, 0)]
  },
  reference([x, seed], { p, stream }) {
    const key = dropoutKey(seed[0], seed[1], stream)
    return [x.map((v, i) => (survives(key, i, p) ? v / (1 - p) : 0))]
  },
  vjp: ({ inputs: [, seed], attrs, cotangents: [dy] }) => [dy ? emit(dropoutDef, [dy, seed], attrs) : null, null],
  samples: () => [
    { title: 'a quarter', inputs: [normal(f32(16, 16)), values(i32(2), [12345, 7])], attrs: { p: 0.25, stream: 3 } },
    {
      title: 'negative seeds',
      inputs: [normal(f32(33)), values(i32(2), [-5, -2000000000])],
      attrs: { p: 0.9, stream: 70 },
    },
    { title: 'nothing dropped', inputs: [normal(f32(9)), values(i32(2), [1, 2])], attrs: { p: 0, stream: 0 } },
  ],
})

export const randomOps = { dropout: dropoutDef } as const

/** Drops elements with probability `p`, by a mask that depends only on the seed (i32[2]), the stream and the position. */
export const dropout = (x: Value, seed: Value, o: DropoutAttrs): Value =>
  o.p === 0 ? x : emit(dropoutDef, [x, seed], { p: o.p, stream: o.stream })
