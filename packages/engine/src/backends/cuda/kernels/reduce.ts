import { sizeOf, stridesOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { i32, input, ints, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, cType, padded } from './launch.js'

const reduction =
  (entry: 'sumOf' | 'maxOf'): CudaKernel<AttrsOf<'sum'>> =>
  (ctx, node) => {
    const [x] = node.inputs
    const { shape, dtype } = x.type
    const strides = stridesOf(shape)
    const all = shape.map((_, axis) => axis)
    const kept = all.filter((axis) => !node.attrs.axes.includes(axis))
    const extents = (axes: readonly number[]) => axes.map((axis) => shape[axis])
    const steps = (axes: readonly number[]) => axes.map((axis) => strides[axis])
    const count = sizeOf(extents(node.attrs.axes))
    ctx.launch({
      source: { file: 'reduce', defines: { T: cType(dtype) } },
      entry,
      grid: [sizeOf(extents(kept)), 1, 1],
      block: count >= BLOCK ? BLOCK : 32,
      args: [
        output(ctx.alloc(node)),
        input(x.ref),
        i32(count),
        ints([
          kept.length,
          ...padded(extents(kept)),
          ...padded(steps(kept)),
          node.attrs.axes.length,
          ...padded(extents(node.attrs.axes)),
          ...padded(steps(node.attrs.axes)),
        ]),
      ],
    })
  }

/** Elements above which the squares are summed by several blocks, whose results a last block adds in order. */
const ONE_BLOCK = 2 ** 17
const PARTIALS = 256

const sumSquares: CudaKernel<AttrsOf<'sumSquares'>> = (ctx, node) => {
  const [x] = node.inputs
  const n = sizeOf(x.type.shape)
  const y = ctx.alloc(node)
  const source = { file: 'reduce', defines: { T: cType(x.type.dtype) } }
  if (n <= ONE_BLOCK) {
    const args = [output(y), input(x.ref), i32(n)]
    const group = { entry: 'sumSquaresGroup', row: args, rest: [] }
    ctx.launch({ source, entry: 'sumSquares', grid: [1, 1, 1], block: 1024, args, group })
    return
  }
  const partial = ctx.scratch(PARTIALS * 4)
  const args = [output(partial), input(x.ref), i32(n)]
  ctx.launch({ source, entry: 'sumSquares', grid: [PARTIALS, 1, 1], block: BLOCK, args })
  ctx.launch({
    source: { file: 'reduce', defines: { T: 'float' } },
    entry: 'sumOf',
    grid: [1, 1, 1],
    block: BLOCK,
    args: [
      output(y),
      input(partial),
      i32(PARTIALS),
      ints([0, ...padded([]), ...padded([]), 1, ...padded([PARTIALS]), ...padded([1])]),
    ],
  })
}

export const reduceKernels = { sum: reduction('sumOf'), max: reduction('maxOf'), sumSquares }
