import type { Value } from '@mirastral/engine'
import type { ModelConfig } from './config.js'
import type { ForwardContext, ForwardInputs } from './forward.js'
import type { ParameterSpec } from './parameters.js'

/** A model family: how its config.json is read, what its parameters are called, and its forward pass. */
export interface Architecture {
  /** Hugging Face's `model_type`. */
  readonly modelType: string
  /** Reads config.json (parsed as JSON). Throws ModelError (kind `config`) with every problem at once; `who` names the file. */
  parseConfig(json: Record<string, unknown>, who?: string): ModelConfig
  /** Every parameter, in the order of the forward pass. */
  parameters(config: ModelConfig): ParameterSpec[]
  /** Emits the forward pass: hidden states [batch, tokens, hiddenSize] after the last norm. */
  forward(ctx: ForwardContext, config: ModelConfig, inputs: ForwardInputs): Value
}
