import type { AttrsOf, OpName } from '../../../ops/index.js'
import type { Unsupported } from '../../kernel-table.js'
import type { CudaKernel } from '../lower.js'
import { activationKernels } from './activation.js'
import { attentionKernels } from './attention.js'
import { cachedAttentionKernels } from './cached-attention.js'
import { elementwiseKernels } from './elementwise.js'
import { embeddingKernels } from './embedding.js'
import { lossKernels } from './loss.js'
import { matmulKernels } from './matmul.js'
import { movementKernels } from './movement.js'
import { normKernels } from './norm.js'
import { optimKernels } from './optim.js'
import { quantKernels } from './quant.js'
import { randomKernels } from './random.js'
import { reduceKernels } from './reduce.js'
import { ropeKernels } from './rope.js'

/** Exhaustive over the ops: an op without a kernel here does not compile. */
export const cudaKernels: { readonly [Name in OpName]: CudaKernel<AttrsOf<Name>> | Unsupported } = {
  ...elementwiseKernels,
  ...reduceKernels,
  ...movementKernels,
  ...matmulKernels,
  ...normKernels,
  ...ropeKernels,
  ...activationKernels,
  ...attentionKernels,
  ...cachedAttentionKernels,
  ...embeddingKernels,
  ...lossKernels,
  ...randomKernels,
  ...optimKernels,
  ...quantKernels,
}
