import { sameShape, sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { f32, i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, blocksFor, cType, dims, packSize } from './launch.js'

type NoAttrs = Record<string, never>

/** Two operands under broadcasting; equal shapes take the vectorised kernel, which may work in place. */
const binary =
  (entry: string): CudaKernel<NoAttrs> =>
  (ctx, node) => {
    const [a, b] = node.inputs
    const { dtype, shape } = node.outputs[0].type
    const n = sizeOf(shape)
    const y = ctx.alloc(node)
    const flat = sameShape(a.type.shape, shape) && sameShape(b.type.shape, shape)
    const args = [output(y), input(a.ref), input(b.ref), i32(n)]
    ctx.launch(
      {
        source: { file: 'elementwise', defines: { T: cType(dtype) } },
        entry: flat ? `${entry}Flat` : entry,
        grid: blocksFor(n, flat ? packSize(dtype) : 1),
        block: BLOCK,
        args: flat ? args : [...args, dims(shape, [a.type.shape, b.type.shape])],
      },
      flat
        ? [
            [y, a.ref],
            [y, b.ref],
          ]
        : [],
    )
  }

const comparison =
  (entry: string): CudaKernel<NoAttrs> =>
  (ctx, node) => {
    const [a, b] = node.inputs
    const { shape } = node.outputs[0].type
    const n = sizeOf(shape)
    ctx.launch({
      source: { file: 'elementwise', defines: { T: cType(a.type.dtype) } },
      entry,
      grid: blocksFor(n),
      block: BLOCK,
      args: [output(ctx.alloc(node)), input(a.ref), input(b.ref), i32(n), dims(shape, [a.type.shape, b.type.shape])],
    })
  }

const unary =
  (entry: string): CudaKernel<NoAttrs> =>
  (ctx, node) => {
    const [x] = node.inputs
    const n = sizeOf(x.type.shape)
    const y = ctx.alloc(node)
    ctx.launch(
      {
        source: { file: 'elementwise', defines: { T: cType(x.type.dtype) } },
        entry: `${entry}Each`,
        grid: blocksFor(n),
        block: BLOCK,
        args: [output(y), input(x.ref), i32(n)],
      },
      [[y, x.ref]],
    )
  }

const select: CudaKernel<NoAttrs> = (ctx, node) => {
  const [condition, a, b] = node.inputs
  const { dtype, shape } = node.outputs[0].type
  const n = sizeOf(shape)
  ctx.launch({
    source: { file: 'elementwise', defines: { T: cType(dtype) } },
    entry: 'select',
    grid: blocksFor(n),
    block: BLOCK,
    args: [
      output(ctx.alloc(node)),
      input(condition.ref),
      input(a.ref),
      input(b.ref),
      i32(n),
      dims(shape, [condition.type.shape, a.type.shape, b.type.shape]),
    ],
  })
}

const cast: CudaKernel<AttrsOf<'cast'>> = (ctx, node) => {
  const [x] = node.inputs
  const { dtype, shape } = node.outputs[0].type
  const n = sizeOf(shape)
  const args = [output(ctx.alloc(node)), input(x.ref), i32(n)]
  const launch = {
    source: { file: 'cast', defines: { TIN: cType(x.type.dtype), TOUT: cType(dtype) } },
    grid: blocksFor(n, 4),
    block: BLOCK,
    args,
  }
  if (dtype === 'bool') ctx.launch({ ...launch, entry: 'castToBool' })
  else ctx.launch({ ...launch, entry: 'cast', group: { entry: 'castGroup', row: args, rest: [] } })
}

const scale: CudaKernel<AttrsOf<'scale'>> = (ctx, node) => {
  const [x] = node.inputs
  const n = sizeOf(x.type.shape)
  const y = ctx.alloc(node)
  ctx.launch(
    {
      source: { file: 'elementwise', defines: { T: cType(x.type.dtype) } },
      entry: 'scale',
      grid: blocksFor(n),
      block: BLOCK,
      args: [output(y), input(x.ref), i32(n), f32(node.attrs.factor), f32(node.attrs.offset)],
    },
    [[y, x.ref]],
  )
}

const full: CudaKernel<AttrsOf<'full'>> = (ctx, node) => {
  const { dtype, shape } = node.outputs[0].type
  const n = sizeOf(shape)
  const narrow = dtype === 'bool' || dtype === 'u8'
  const row = [output(ctx.alloc(node)), i32(n)]
  const rest = [f32(node.attrs.value)]
  ctx.launch({
    source: narrow
      ? { file: 'cast', defines: { TIN: 'float', TOUT: 'u8' } }
      : { file: 'elementwise', defines: { T: cType(dtype) } },
    entry: 'full',
    grid: blocksFor(n),
    block: BLOCK,
    args: [...row, ...rest],
    ...(narrow ? {} : { group: { entry: 'fullGroup', row, rest } }),
  })
}

/** The first input under another name: the second one only orders the program. */
const first: CudaKernel<NoAttrs> = (ctx, node) => {
  const [x] = node.inputs
  const [out] = node.outputs
  ctx.define(out.id, out.type, x.ref)
}

export const elementwiseKernels = {
  add: binary('add'),
  sub: binary('sub'),
  mul: binary('mul'),
  div: binary('div'),
  maximum: binary('maximum'),
  neg: unary('neg'),
  exp: unary('exp'),
  log: unary('log'),
  sqrt: unary('sqrt'),
  sigmoid: unary('sigmoid'),
  tanh: unary('tanh'),
  greater: comparison('greater'),
  equal: comparison('equal'),
  select,
  cast,
  scale,
  full,
  barrier: first,
  detach: first,
}
