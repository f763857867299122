import type { Attrs } from '../ir/program.js'
import { activationOps } from './activation.js'
import { attentionOps } from './attention.js'
import { cachedAttentionOps } from './cached-attention.js'
import type { OpDef } from './define.js'
import { elementwiseOps } from './elementwise.js'
import { embeddingOps } from './embedding.js'
import { lossOps } from './loss.js'
import { matmulOps } from './matmul.js'
import { movementOps } from './movement.js'
import { normOps } from './norm.js'
import { optimOps } from './optim.js'
import { quantOps } from './quant.js'
import { randomOps } from './random.js'
import { reduceOps } from './reduce.js'
import { ropeOps } from './rope.js'

/** Every op, by name. Backends' kernel tables are exhaustive over these names. */
export const ops = {
  ...elementwiseOps,
  ...reduceOps,
  ...movementOps,
  ...matmulOps,
  ...normOps,
  ...ropeOps,
  ...activationOps,
  ...attentionOps,
  ...cachedAttentionOps,
  ...embeddingOps,
  ...lossOps,
  ...randomOps,
  ...optimOps,
  ...quantOps,
} as const

export type OpName = keyof typeof ops

/** The attributes of an op. */
export type AttrsOf<Name extends OpName> = (typeof ops)[Name] extends OpDef<infer A> ? A : never

/** The definition of an op of a program; undefined for a name that is not an op. */
export const opByName = (name: string): OpDef<Attrs> | undefined =>
  (ops as unknown as Readonly<Record<string, OpDef<Attrs>>>)[name]
