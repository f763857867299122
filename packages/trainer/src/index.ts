export type {
  AccumulateAt,
  AccumulateResult,
  DeviceState,
  EvaluateResult,
  Merging,
  StateTensor,
  TrainStep,
  UpdateRequest,
} from './step.js'
export { statePrefix } from './step.js'
export type { TrainerErrorCode } from './errors.js'
export { TrainerError } from './errors.js'
export type { Recipe, TrainingOptions, TrainingOptionsInput } from './options.js'
export { parseTrainingOptions, trainingOptionNames } from './options.js'
export type { Schedule, SchedulerType } from './schedule.js'
export { countSteps, learningRateAt, resolveWarmupSteps, scheduleFactor, updatesPerEpoch } from './schedule.js'
export type { BatchOptions, BatchSource, Row, RowSource } from './batches.js'
export { batchesOf, rowsOf } from './batches.js'
export type { JsonValue, SaveAdapter } from './checkpoint.js'
export type { RunIdentity, RunInspection } from './resume.js'
export { inspectRun } from './resume.js'
export type { StopReason } from './signals.js'
export { describeStop, installSignalHandlers, StopRequested, StopSource } from './signals.js'
export type { EventOf, RunStatus, Speed, TrainerCallbacks, TrainerEvent } from './events.js'
export { TrainerEvents } from './events.js'
export type { Evaluation, StepRecord } from './state.js'
export type { OutputLock } from './lock.js'
export { lockOutput } from './lock.js'
export type { Lazy, LazyContext, TrainingData, TrainRequest, TrainResult } from './train.js'
export { train } from './train.js'
export type { TrainStepRequest } from './train-step.js'
export { createTrainStep } from './train-step.js'
export type { PublishRequest } from './publishing.js'
export type { PairLogProbs, PairLoss, PreferenceLossType, PreferenceOptions } from './preference.js'
export { preferenceLoss, preferenceLossTypes, preferenceMetrics } from './preference.js'
export type { ProgressOptions, ProgressStream } from './progress.js'
export { showProgress } from './progress.js'
export type { PairSource, PreferenceBatch, PreferencePair } from './preference-batches.js'
export { collatePairs, pairsIn, preferenceBatchesOf } from './preference-batches.js'
export type { PreferenceStep, PreferenceStepRequest } from './preference-step.js'
export { createPreferenceStep } from './preference-step.js'
export type { PreferenceRunRequest } from './preference-run.js'
export { preferenceRun } from './preference-run.js'
export type { ReferenceRequest } from './reference-cache.js'
export { referenceLogProbs } from './reference-cache.js'
