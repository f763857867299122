import type { Batch } from '@mirastral/data'
import type { Backend, Executable, Program, Session } from '@mirastral/engine'
import { f32, sizeOf } from '@mirastral/engine'
import type { InitialAdapter } from '@mirastral/lora'
import { adapterTensors, subtractedName, withLora } from '@mirastral/lora'
import type { Architecture, ModelConfig, Weights } from '@mirastral/models'
import { bindConstants, forwardContext } from '@mirastral/models'
import { TrainerError } from './errors.js'
import { uniformNoise } from './noise.js'
import type { TrainingOptions } from './options.js'
import type { BackwardOptions, ForwardOptions, TrainableModel } from './programs.js'
import { evaluationProgram, gradientSquaresProgram, microStepProgram, seedName, updatePrograms } from './programs.js'
import { joined, mergeBatches, mergingOf, shapeOf } from './merge-batches.js'
import type { AccumulateAt, AccumulateResult, DeviceState, Merging, TrainStep, UpdateRequest } from './step.js'
import { statePrefix } from './step.js'

export interface TrainStepRequest {
  readonly backend: Backend
  readonly model: { readonly architecture: Architecture; readonly config: ModelConfig; readonly weights: Weights }
  readonly adapter: InitialAdapter
  readonly options: TrainingOptions
  /** `full` computes each layer's intermediate values again in the backward pass: less memory, about a third more time. */
  readonly checkpointing: 'none' | 'full'
}

/** Loads a model and its adapter onto a backend, ready to train. */
export async function createTrainStep(request: TrainStepRequest): Promise<TrainStep<Batch>> {
  return createTrainStepOn(await request.backend.createSession(), request)
}

/** The same on a session that others use too; disposing of the step disposes of the session. */
export async function createTrainStepOn(session: Session, request: TrainStepRequest): Promise<TrainStep<Batch>> {
  const step = new EngineTrainStep(session, request)
  await step.initialize()
  return step
}

/** Programs are compiled once per shape of batch; all of them share the session's weights and states. */
class EngineTrainStep implements TrainStep<Batch> {
  readonly merging: Merging<Batch>
  private readonly model: TrainableModel
  private readonly micro = new Map<string, Executable>()
  private readonly evaluation = new Map<string, Executable>()
  private readonly bound = new Set<string>()
  private optimizer: { squares: Executable; updates: Executable[] } | null = null

  constructor(
    private readonly session: Session,
    private readonly request: TrainStepRequest,
  ) {
    this.merging = {
      ...mergingOf(request),
      key: shapeOf,
      tokens: ({ batchSize, sequenceLength }) => batchSize * sequenceLength,
      accumulate: (batches, at) => this.accumulateAll(batches, at),
    }
    const { architecture, config, weights } = request.model
    const { plan } = request.adapter
    this.model = {
      architecture,
      config,
      context: (graph, dropoutSeeds) => withLora(forwardContext(graph, weights.types), plan, { dropoutSeeds }),
      trained: adapterTensors(plan),
    }
  }

  async initialize(): Promise<void> {
    const { tensors, subtracted } = this.request.adapter
    for (const [key, shape] of this.model.trained) {
      const tensor = tensors.get(key)
      if (!tensor) throw new TrainerError('MIRASTRAL_TRAINER_INTERNAL', `internal: the adapter has no tensor ${key}`)
      const type = f32(...shape)
      await this.session.bind(`${statePrefix.adapter}${key}`, { type, data: tensor.data })
      for (const prefix of [statePrefix.firstMoment, statePrefix.secondMoment, statePrefix.gradient]) {
        const zeros = new Float32Array(sizeOf(shape))
        await this.session.bind(`${prefix}${key}`, { type, data: zeros }, { transfer: true })
      }
    }
    for (const [key, { shape, data }] of subtracted) {
      await this.session.bind(subtractedName(key), { type: f32(...shape), data })
    }
  }

  private forwardOptions(batch: Batch): ForwardOptions {
    const { options, adapter } = this.request
    return {
      maxPositions: Math.max(options.maxLength, batch.sequenceLength),
      labelSmoothing: options.labelSmoothingFactor,
      dropout: adapter.plan.config.loraDropout > 0,
      noise: options.neftuneNoiseAlpha !== null,
    }
  }

  private async compiled(cache: Map<string, Executable>, batch: Batch, parts: number | null): Promise<Executable> {
    const options = this.forwardOptions(batch)
    // Only what is drawn tells the parts of a batch apart.
    const bucket = { ...batch, parts: options.dropout ? (parts ?? 1) : 1 }
    const key = `${bucket.batchSize}x${bucket.sequenceLength} of ${bucket.parts}`
    const known = cache.get(key)
    if (known) return known
    const program =
      parts === null
        ? evaluationProgram(this.model, bucket, options)
        : microStepProgram(this.model, bucket, { ...options, ...backwardOptions(this.request) })
    await bindConstants(this.session, program, this.request.model, this.bound)
    const executable = await this.session.compile(program, { releaseMemory: this.request.checkpointing === 'full' })
    cache.set(key, executable)
    return executable
  }

  accumulate(batch: Batch, at: AccumulateAt): Promise<AccumulateResult> {
    return this.accumulateAll([batch], [at])
  }

  private async accumulateAll(batches: readonly Batch[], at: readonly AccumulateAt[]): Promise<AccumulateResult> {
    const whole = mergeBatches(batches)
    const executable = await this.compiled(this.micro, whole, batches.length)
    const { lossSum } = await executable.run({
      ...inputsOf(whole),
      ...scaleInput(this.request, at[0]),
      ...this.randomInputs(batches, at),
    })
    return { lossSum: lossSum[0], tokens: whole.trainedTokens }
  }

  /**
   * What dropout and NEFTune draw for a micro-batch depends on the seed and its number alone: a resumed run draws the same,
   * and so does one that merges micro-batches.
   */
  private randomInputs(
    batches: readonly Batch[],
    at: readonly AccumulateAt[],
  ): Record<string, Int32Array | Float32Array> {
    const { dropout, noise } = this.forwardOptions(batches[0])
    return {
      ...(dropout ? dropoutSeeds(this.request, at) : {}),
      ...(noise ? { noise: joined(batches.map((batch, i) => this.neftune(batch, at[i].microStep))) } : {}),
    }
  }

  /** Uniform in [-1, 1] times alpha / sqrt(length * width) (arXiv 2310.05914), the length without padding, per row. */
  private neftune(batch: Batch, microStep: number): Float32Array {
    const { hiddenSize } = this.model.config
    const alpha = this.request.options.neftuneNoiseAlpha ?? 0
    const { batchSize, sequenceLength, segmentIds } = batch
    const noise = uniformNoise(batchSize * sequenceLength * hiddenSize, this.request.options.seed, microStep)
    for (let row = 0; row < batchSize; row++) {
      const segments = segmentIds.subarray(row * sequenceLength, (row + 1) * sequenceLength)
      const length = segments.reduce((count, segment) => count + (segment > 0 ? 1 : 0), 0)
      const size = sequenceLength * hiddenSize
      const scale = alpha / Math.sqrt(Math.max(1, length) * hiddenSize)
      for (let i = row * size; i < (row + 1) * size; i++) noise[i] *= scale
    }
    return noise
  }

  async update(o: UpdateRequest): Promise<{ gradNorm: number }> {
    const { options } = this.request
    this.optimizer ??= await this.compileOptimizer()
    const { squares } = await this.optimizer.squares.run({})
    const divisor = o.tokens * (o.lossScale ?? 1)
    const gradNorm = Math.sqrt(squares[0]) / divisor
    if (!Number.isFinite(gradNorm)) {
      await this.clearGradients()
      return { gradNorm }
    }
    const scalars = {
      learningRate: Float32Array.of(o.learningRate),
      bias1: Float32Array.of(1 - options.adamBeta1 ** o.step),
      bias2: Float32Array.of(1 - options.adamBeta2 ** o.step),
      gradScale: Float32Array.of(clipFactor(gradNorm, options.maxGradNorm) / divisor),
    }
    for (const program of this.optimizer.updates) await program.run(scalars)
    return { gradNorm }
  }

  private async compileOptimizer(): Promise<{ squares: Executable; updates: Executable[] }> {
    const { options } = this.request
    const compile = (program: Program): Promise<Executable> => this.session.compile(program, { releaseMemory: true })
    const updates: Executable[] = []
    const programs = updatePrograms(this.model, {
      beta1: options.adamBeta1,
      beta2: options.adamBeta2,
      eps: options.adamEpsilon,
      weightDecay: options.weightDecay,
      loraplusLrRatio: options.loraplusLrRatio,
    })
    for (const program of programs) updates.push(await compile(program))
    return { squares: await compile(gradientSquaresProgram(this.model)), updates }
  }

  private async clearGradients(): Promise<void> {
    for (const [key, shape] of this.model.trained) {
      const data = new Float32Array(sizeOf(shape))
      await this.session.bind(`${statePrefix.gradient}${key}`, { type: f32(...shape), data }, { transfer: true })
    }
  }

  async evaluate(batch: Batch): Promise<{ lossSum: number; tokens: number; correct: number }> {
    const executable = await this.compiled(this.evaluation, batch, null)
    const { lossSum, correct } = await executable.run(inputsOf(batch))
    return { lossSum: lossSum[0], tokens: batch.trainedTokens, correct: correct[0] }
  }

  async readState(): Promise<DeviceState> {
    const state: DeviceState = new Map()
    for (const [key, shape] of this.model.trained) {
      for (const prefix of Object.values(statePrefix)) {
        const { data } = await this.session.read(`${prefix}${key}`)
        state.set(`${prefix}${key}`, { shape, data: data as Float32Array })
      }
    }
    return state
  }

  async writeState(state: DeviceState): Promise<void> {
    for (const [name, { shape, data }] of state) await this.session.bind(name, { type: f32(...shape), data })
  }

  async dispose(): Promise<void> {
    await this.session.dispose()
  }
}

export const inputsOf = ({ inputIds, targets, positions, segmentIds }: Batch) => ({
  inputIds,
  targets,
  positions,
  segmentIds,
})

/** Whether layers are computed again, and the loss is scaled. */
export const backwardOptions = ({ checkpointing, options }: TrainStepRequest): BackwardOptions => ({
  checkpoint: checkpointing === 'full',
  scaled: options.precision === 'float16',
})

/** The input of a program whose loss is scaled. */
export const scaleInput = (
  { options }: TrainStepRequest,
  { lossScale = 1 }: AccumulateAt,
): Record<string, Float32Array> => (options.precision === 'float16' ? { lossScale: Float32Array.of(lossScale) } : {})

/** One seed for each micro-batch: that of the run, and its own number. */
export const dropoutSeeds = ({ options }: TrainStepRequest, at: readonly AccumulateAt[]): Record<string, Int32Array> =>
  Object.fromEntries(at.map(({ microStep }, part) => [seedName(part), Int32Array.of(options.seed, microStep)]))

/** PyTorch's `clip_grad_norm_`: min(1, maxNorm / (norm + 1e-6)); 0 turns clipping off. */
const clipFactor = (norm: number, maxNorm: number): number => (maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1)
