import type { Batch } from '@mirastral/data'
import type { Executable, Session } from '@mirastral/engine'
import { withLora } from '@mirastral/lora'
import { bindConstants, forwardContext } from '@mirastral/models'
import { adapterTensors } from '@mirastral/lora'
import type { PreferenceBatch } from './preference-batches.js'
import { logProbProgram, preferenceProgram } from './preference-programs.js'
import type { PairLogProbs, PreferenceOptions } from './preference.js'
import { preferenceLoss, preferenceMetrics } from './preference.js'
import type { Bucket, ForwardOptions, TrainableModel } from './programs.js'
import { joined, mergeBatches, mergingOf, shapeOf } from './merge-batches.js'
import { addSums } from './state.js'
import type {
  AccumulateAt,
  AccumulateResult,
  DeviceState,
  EvaluateResult,
  Merging,
  TrainStep,
  UpdateRequest,
} from './step.js'
import type { TrainStepRequest } from './train-step.js'
import { backwardOptions, createTrainStepOn, dropoutSeeds, inputsOf, scaleInput } from './train-step.js'

export interface PreferenceStepRequest extends TrainStepRequest {
  /** Default: `dpoLossType`, `dpoBeta` and `dpoLabelSmoothing` of the training options. */
  readonly preference?: PreferenceOptions
}

/** A training step on preference pairs; what it counts as tokens are pairs, and what is correct is a pair ranked rightly. */
export interface PreferenceStep extends TrainStep<PreferenceBatch> {
  /** Log-probability of each row's answer with the adapter switched off: f32[rows]. */
  referenceLogProbs(rows: Batch): Promise<Float32Array>
}

/** Loads a model and its adapter onto a backend, ready for preference training (DPO and its kin). */
export async function createPreferenceStep(request: PreferenceStepRequest): Promise<PreferenceStep> {
  const session = await request.backend.createSession()
  return new EnginePreferenceStep(session, await createTrainStepOn(session, request), request)
}

/** The optimizer and the state are those of the ordinary step, whose session this one shares. */
class EnginePreferenceStep implements PreferenceStep {
  readonly counts = 'pairs'
  readonly merging: Merging<PreferenceBatch>
  private readonly preference: PreferenceOptions
  private readonly adapted: TrainableModel
  private readonly base: TrainableModel
  private readonly programs = new Map<string, Executable>()
  private readonly bound = new Set<string>()

  constructor(
    private readonly session: Session,
    private readonly optimizer: TrainStep<Batch>,
    private readonly request: PreferenceStepRequest,
  ) {
    this.merging = {
      ...mergingOf(request),
      key: ({ rows }) => shapeOf(rows),
      tokens: ({ rows }) => rows.batchSize * rows.sequenceLength,
      accumulate: (batches, at) => this.accumulateAll(batches, at),
    }
    const { architecture, config, weights } = request.model
    const { plan } = request.adapter
    this.preference = request.preference ?? preferenceOf(request.options)
    this.adapted = {
      architecture,
      config,
      context: (graph, dropoutSeeds) => withLora(forwardContext(graph, weights.types), plan, { dropoutSeeds }),
      trained: adapterTensors(plan),
    }
    this.base = { architecture, config, context: (graph) => forwardContext(graph, weights.types), trained: new Map() }
  }

  accumulate(batch: PreferenceBatch, at: AccumulateAt): Promise<AccumulateResult> {
    return this.accumulateAll([batch], [at])
  }

  private async accumulateAll(
    batches: readonly PreferenceBatch[],
    at: readonly AccumulateAt[],
  ): Promise<AccumulateResult> {
    const { preference, request } = this
    const rows = mergeBatches(batches.map((batch) => batch.rows))
    const forward = this.forwardOptions(rows)
    const kind = `prefer ${batches.length}`
    const executable = await this.compiled(kind, { ...rows, parts: batches.length }, (bucket) =>
      preferenceProgram(this.adapted, bucket, { ...forward, ...preference, ...backwardOptions(request) }),
    )
    const { logProbs } = await executable.run({
      ...inputsOf(rows),
      reference: joined(batches.map((batch) => batch.reference)),
      ...(preference.lossType === 'ipo' && { inverseTokens: answerLengths(rows).map((n) => 1 / Math.max(1, n)) }),
      ...scaleInput(request, at[0]),
      ...(forward.dropout ? dropoutSeeds(request, at) : {}),
    })
    const size = rows.batchSize / batches.length
    const results = batches.map((batch, i) =>
      this.judge(batch, (logProbs as Float32Array).subarray(i * size, (i + 1) * size)),
    )
    const metrics: Record<string, number> = {}
    for (const result of results) addSums(metrics, result.metrics)
    const total = (of: 'lossSum' | 'tokens'): number => results.reduce((sum, result) => sum + result[of], 0)
    return { lossSum: total('lossSum'), tokens: total('tokens'), metrics }
  }

  async evaluate(batch: PreferenceBatch): Promise<EvaluateResult> {
    return this.judge(batch, await this.logProbs('adapted', this.adapted, batch.rows))
  }

  referenceLogProbs(rows: Batch): Promise<Float32Array> {
    return this.logProbs('base', this.base, rows)
  }

  update(request: UpdateRequest): Promise<{ readonly gradNorm: number }> {
    return this.optimizer.update(request)
  }

  readState(): Promise<DeviceState> {
    return this.optimizer.readState()
  }

  writeState(state: DeviceState): Promise<void> {
    return this.optimizer.writeState(state)
  }

  dispose(): Promise<void> {
    return this.optimizer.dispose()
  }

  private forwardOptions(rows: Batch): ForwardOptions {
    const { options, adapter } = this.request
    return {
      maxPositions: Math.max(options.maxLength, rows.sequenceLength),
      labelSmoothing: 0,
      dropout: adapter.plan.config.loraDropout > 0,
      noise: false,
    }
  }

  private async logProbs(kind: string, model: TrainableModel, rows: Batch): Promise<Float32Array> {
    const executable = await this.compiled(kind, rows, (bucket) =>
      logProbProgram(model, bucket, this.forwardOptions(rows)),
    )
    const { logProbs } = await executable.run(inputsOf(rows))
    return logProbs as Float32Array
  }

  private async compiled(
    kind: string,
    rows: Bucket,
    build: (bucket: Bucket) => ReturnType<typeof logProbProgram>,
  ): Promise<Executable> {
    const key = `${kind} ${rows.batchSize}x${rows.sequenceLength}`
    const known = this.programs.get(key)
    if (known) return known
    const program = build(rows)
    await bindConstants(this.session, program, this.request.model, this.bound)
    const executable = await this.session.compile(program)
    this.programs.set(key, executable)
    return executable
  }

  /** Losses and metrics of the pairs from the log-probabilities of their rows. */
  private judge({ rows, reference }: PreferenceBatch, logProbs: Float32Array): EvaluateResult {
    const count = rows.batchSize / 2
    const lengths = answerLengths(rows)
    const pairs = Array.from({ length: count }, (_, i): PairLogProbs => ({
      chosen: logProbs[i],
      rejected: logProbs[count + i],
      referenceChosen: reference[i],
      referenceRejected: reference[count + i],
      chosenTokens: lengths[i],
      rejectedTokens: lengths[count + i],
    }))
    const losses = pairs.map((pair) => preferenceLoss(pair, this.preference))
    const metrics = preferenceMetrics(pairs, losses)
    const lossSum = losses.reduce((sum, { loss }) => sum + loss, 0)
    return { lossSum, tokens: count, correct: metrics['rewards/accuracies'], metrics }
  }
}

const preferenceOf = ({ dpoLossType, dpoBeta, dpoLabelSmoothing }: TrainStepRequest['options']): PreferenceOptions => ({
  lossType: dpoLossType,
  beta: dpoBeta,
  labelSmoothing: dpoLabelSmoothing,
})

/** Trained tokens of each row. */
function answerLengths({ batchSize, sequenceLength, targets }: Batch): Float32Array {
  return Float32Array.from({ length: batchSize }, (_, row) => {
    const own = targets.subarray(row * sequenceLength, (row + 1) * sequenceLength)
    return own.reduce((count, target) => count + (target === -100 ? 0 : 1), 0)
  })
}
