/** One float32 tensor of a training state, row-major. */
export interface StateTensor {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/**
 * The trainable state of a `TrainStep` on the host, everything in float32:
 * - `adapter/<PEFT key>`: the adapter's weights;
 * - `moments/m/<PEFT key>`, `moments/v/<PEFT key>`: AdamW's first and second moments;
 * - `gradients/<PEFT key>`: what has been accumulated since the last update (sums, not yet divided by the tokens).
 */
export type DeviceState = Map<string, StateTensor>

export const statePrefix = {
  adapter: 'adapter/',
  firstMoment: 'moments/m/',
  secondMoment: 'moments/v/',
  gradient: 'gradients/',
} as const

export interface AccumulateResult {
  /** Sum of the losses of the batch's trained tokens (of its pairs, in preference training), not divided. */
  readonly lossSum: number
  /** How many trained tokens (pairs) that is: what the sums are divided by. */
  readonly tokens: number
  /** Further sums over the same tokens (pairs), logged as their mean: the rewards of preference training. */
  readonly metrics?: Readonly<Record<string, number>>
}

export interface AccumulateAt {
  /** Counts the micro-batches of the run from 0. */
  readonly microStep: number
  /** What the loss is multiplied by before the backward pass (float16), a power of two; default 1. Reported losses are unscaled. */
  readonly lossScale?: number
}

/** How a step runs several micro-batches of one window as one batch. */
export interface Merging<B> {
  /** Whether that is the faster way here, which `mergeMicroBatches: 'auto'` follows. */
  readonly preferred: boolean
  /** Micro-batches can be merged where this is equal: those of one shape. */
  key(batch: B): string
  /** Tokens of a batch with its padding: what its memory grows with. */
  tokens(batch: B): number
  /**
   * The same as `accumulate` of one after the other, but for rounding: equal sums, equal gradients; what dropout and NEFTune
   * draw for a micro-batch depends on its own number, not on what it is merged with.
   */
  accumulate(batches: readonly B[], at: readonly AccumulateAt[]): Promise<AccumulateResult>
  /** Whether an error says that the device's memory is too small for so large a batch. Nothing has changed then. */
  isOutOfMemory(error: unknown): boolean
}

export interface EvaluateResult extends AccumulateResult {
  /** How many of the tokens (pairs) the model ranks first. */
  readonly correct: number
}

export interface UpdateRequest {
  readonly learningRate: number
  /** Counts the updates that were applied, from 1: the t of AdamW's bias correction. */
  readonly step: number
  /** Trained tokens (pairs) of the accumulated batches: gradients are divided by it before clipping. */
  readonly tokens: number
  /** What the losses of the accumulated batches were multiplied by; gradients are divided by it too. Default 1. */
  readonly lossScale?: number
}

/**
 * The device side of training. The loop calls it strictly one call at a time. Equal calls in an equal order from an
 * equal state must give equal bits, and `writeState(readState())` must change nothing: exact resume rests on both.
 */
export interface TrainStep<B> {
  /** What losses are counted by; default `tokens`. A loss per pair has no perplexity. */
  readonly counts?: 'tokens' | 'pairs'
  /**
   * Forward and backward; adds the gradients of the loss sum to the accumulators. `microStep` counts the micro-batches of
   * the run from 0 and is the only source of randomness (dropout, NEFTune), so that a resumed run draws the same.
   */
  accumulate(batch: B, at: AccumulateAt): Promise<AccumulateResult>
  /** Not there where micro-batches can only be run one at a time. */
  readonly merging?: Merging<B>
  /**
   * Divides the accumulated gradients by `tokens`, clips their global norm, applies AdamW and sets the accumulators to zero.
   * Returns the norm before clipping. If that is not finite, weights and moments stay as they are (the accumulators are
   * still set to zero), and the norm is returned as it is.
   */
  update(request: UpdateRequest): Promise<{ readonly gradNorm: number }>
  /** Forward only, without dropout. */
  evaluate(batch: B): Promise<EvaluateResult>
  /** A copy of the whole trainable state. */
  readState(): Promise<DeviceState>
  /** Replaces the tensors that `state` names; the others stay. */
  writeState(state: DeviceState): Promise<void>
  dispose(): Promise<void>
}

/** The entries of `state` under a prefix, with the prefix removed. */
export function stateUnder(state: DeviceState, prefix: string): Map<string, StateTensor> {
  const found = new Map<string, StateTensor>()
  for (const [name, tensor] of state) if (name.startsWith(prefix)) found.set(name.slice(prefix.length), tensor)
  return found
}

/** Zeros of the shapes of the tensors of `state` under a prefix, under their full names. */
export function zerosUnder(state: DeviceState, prefix: string): DeviceState {
  const zeros: DeviceState = new Map()
  for (const [name, tensor] of state) {
    if (name.startsWith(prefix)) zeros.set(name, { shape: tensor.shape, data: new Float32Array(tensor.data.length) })
  }
  return zeros
}
