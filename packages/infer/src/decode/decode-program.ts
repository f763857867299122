import type { Program, Value } from '@mirastral/engine'
import { embedding, Graph, i32, linear, reshape } from '@mirastral/engine'
import type { LoraPlan } from '@mirastral/lora'
import { withLora } from '@mirastral/lora'
import type { Architecture, ForwardContext, ModelConfig, Weights } from '@mirastral/models'
import { forwardContext, outputEmbedding } from '@mirastral/models'

export interface DecoderModel {
  readonly architecture: Architecture
  readonly config: ModelConfig
  readonly weights: Weights
}

/** What one run computes: `tokens` new tokens of each of `sequences` texts. */
export interface RunShape {
  readonly sequences: number
  readonly tokens: number
}

/**
 * Logits f32 [sequences, vocabSize] of one row of each sequence. Inputs: ids and positions i32 [sequences, tokens],
 * `length.<n>` i32 [1] the tokens that sequence n has already, and for several tokens `rows` i32 [sequences], the index of
 * the row that matters among all rows. The caches are the states `cache.<n>.*`.
 */
export function decodeProgram(
  model: DecoderModel,
  plan: LoraPlan | null,
  shape: RunShape & { readonly capacity: number },
): Program {
  const { sequences, tokens, capacity } = shape
  const g = new Graph(`decode ${sequences}x${tokens}`)
  const plain = forwardContext(g, model.weights.types)
  const ctx: ForwardContext = plan ? withLora(plain, plan) : plain
  const hidden = model.architecture.forward(ctx, model.config, {
    ids: g.input('ids', i32(sequences, tokens)),
    positions: g.input('positions', i32(sequences, tokens)),
    maxPositions: capacity,
    cache: { capacity, lengths: Array.from({ length: sequences }, (_, n) => g.input(`length.${n}`, i32(1))) },
  })
  const flat = reshape(hidden, [sequences * tokens, model.config.hiddenSize])
  const rows: Value = tokens === 1 ? flat : embedding(flat, g.input('rows', i32(sequences)))
  g.output('logits', linear(rows, ctx.parameter(outputEmbedding(model.config))))
  return g.build()
}
