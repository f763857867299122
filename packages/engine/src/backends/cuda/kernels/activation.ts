import { sizeOf } from '../../../ir/tensor-type.js'
import type { AttrsOf } from '../../../ops/index.js'
import { i32, input, output } from '../command.js'
import type { CudaKernel } from '../lower.js'
import { BLOCK, blocksFor, cType, packSize } from './launch.js'

const swiglu: CudaKernel<AttrsOf<'swiglu'>> = (ctx, node) => {
  const [gate, up] = node.inputs
  const { dtype, shape } = gate.type
  const n = sizeOf(shape)
  const y = ctx.alloc(node)
  ctx.launch(
    {
      source: { file: 'activation', defines: { T: cType(dtype) } },
      entry: 'swiglu',
      grid: blocksFor(n, packSize(dtype)),
      block: BLOCK,
      args: [output(y), input(gate.ref), input(up.ref), i32(n)],
    },
    [
      [y, gate.ref],
      [y, up.ref],
    ],
  )
}

const swigluBackward: CudaKernel<AttrsOf<'swigluBackward'>> = (ctx, node) => {
  const [dy, gate, up] = node.inputs
  const { dtype, shape } = gate.type
  const n = sizeOf(shape)
  const [dGate, dUp] = [ctx.alloc(node), ctx.alloc(node, 1)]
  ctx.launch(
    {
      source: { file: 'activation', defines: { T: cType(dtype) } },
      entry: 'swigluBackward',
      grid: blocksFor(n, packSize(dtype)),
      block: BLOCK,
      args: [output(dGate), output(dUp), input(dy.ref), input(gate.ref), input(up.ref), i32(n)],
    },
    [
      [dGate, gate.ref],
      [dUp, up.ref],
      [dGate, dy.ref],
      [dUp, dy.ref],
    ],
  )
}

export const activationKernels = { swiglu, swigluBackward }
