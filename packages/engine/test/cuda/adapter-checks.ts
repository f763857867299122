import { grad } from '../../src/autodiff/grad.js'
import { Graph, type Value } from '../../src/ir/graph.js'
import type { Program } from '../../src/ir/program.js'
import { bf16, f32, nf4 } from '../../src/ir/tensor-type.js'
import { add, cast, mul } from '../../src/ops/elementwise.js'
import { linear } from '../../src/ops/matmul.js'
import { sum } from '../../src/ops/reduce.js'
import { toleranceOf } from '../../src/testing/index.js'
import { compareProgram, type Check } from './checks.js'

interface AdapterCase {
  readonly rows: number
  readonly ranks: readonly [number, number, number]
  readonly input: number
  readonly quantized: boolean
  readonly gradients: boolean
}

/** Three projections of one input with adapters, an addend, and all gradients. */
function adapterProgram({ rows, ranks, input, quantized, gradients }: AdapterCase): Program {
  const g = new Graph(`adapters of ranks ${ranks.join(', ')} on ${rows} rows of ${input}${quantized ? ' nf4' : ''}`)
  const x = g.input('x', bf16(rows, input))
  const out = 144
  const pairs = ranks.map((rank, i) => [g.state(`a${i}`, f32(rank, input)), g.state(`b${i}`, f32(out, rank))])
  const outputs = pairs.map(([a, b], i): Value => {
    const weight = g.constant(`w${i}`, quantized ? nf4([out, input]) : bf16(out, input))
    const base = linear(x, weight)
    const whole = add(base, linear(linear(x, cast(a, 'bf16')), cast(b, 'bf16'), { alpha: 0.25 }))
    return i === 2 ? add(g.input('z', bf16(rows, out)), whole) : whole
  })
  outputs.forEach((value, i) => g.output(`y${i}`, value))
  if (gradients) {
    const cotangents = outputs.map((y, i) => mul(y, g.input(`dy${i}`, bf16(rows, out))))
    const loss = sum(cast(cotangents.reduce(add), 'f32'))
    grad(loss, [x, ...pairs.flat()]).forEach((value, i) => g.output(`d${i}`, value))
  }
  return g.build()
}

const adapterCase = (o: Partial<AdapterCase>): AdapterCase => ({
  ...{ rows: 40, ranks: [16, 16, 16], input: 192, quantized: true, gradients: false },
  ...o,
})

const adapterCases: readonly AdapterCase[] = [
  adapterCase({ gradients: true }),
  adapterCase({ ranks: [8, 24, 16], rows: 37, gradients: true }),
  adapterCase({ ranks: [4, 8, 5], gradients: true }),
  adapterCase({ quantized: false, gradients: true, rows: 129 }),
  ...[1, 2, 3, 5, 8].map((rows) => adapterCase({ rows })),
  adapterCase({ rows: 1, ranks: [8, 32, 16], quantized: false }),
  adapterCase({ rows: 4, ranks: [5, 4, 3] }),
  adapterCase({ rows: 7, input: 96, gradients: true }),
]

/** Adapters of one input share products, and join the base product of few rows. */
export const adapterChecks = (): Check[] =>
  adapterCases.map((c) => {
    const program = adapterProgram(c)
    return { title: program.name, run: (b) => compareProgram(b, program, new Map(), toleranceOf('bf16')) }
  })
