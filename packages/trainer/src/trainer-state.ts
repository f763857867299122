import type { TrainingOptions } from './options.js'
import type { Evaluation, LoopState, StepRecord } from './state.js'

/** An entry of `log_history`, in the Hugging Face Trainer's words and order. */
export function trainHistoryEntry(record: StepRecord): object {
  return {
    loss: record.loss,
    grad_norm: record.gradNorm,
    learning_rate: record.learningRate,
    ...record.metrics,
    epoch: record.epoch,
    step: record.step,
  }
}

export function evalHistoryEntry(evaluation: Evaluation): object {
  const { evalLoss, evalPerplexity, evalTokenAccuracy, metrics, epoch, step } = evaluation
  const more = Object.entries(metrics ?? {}).map(([name, value]) => [`eval_${name}`, value] as const)
  return {
    eval_loss: evalLoss,
    ...(evalPerplexity !== undefined && { eval_perplexity: evalPerplexity }),
    eval_token_accuracy: evalTokenAccuracy,
    ...Object.fromEntries(more),
    epoch,
    step,
  }
}

/**
 * `trainer_state.json` with exactly the keys of Transformers' `TrainerState`, sorted as it writes them: what reads a Trainer's
 * checkpoints reads ours.
 */
export function trainerState(
  state: LoopState,
  o: {
    readonly options: TrainingOptions
    readonly totalSteps: number
    readonly epoch: number
    readonly logHistory: readonly object[]
  },
): object {
  const control = {
    should_epoch_stop: false,
    should_evaluate: false,
    should_log: false,
    should_save: true,
    should_training_stop: state.phase === 'finished',
  }
  return {
    best_global_step: state.best?.step ?? null,
    best_metric: state.best?.metric ?? null,
    best_model_checkpoint: state.best?.checkpoint ?? null,
    epoch: o.epoch,
    eval_steps: o.options.evalSteps,
    global_step: state.startStep + state.step,
    is_hyper_param_search: false,
    is_local_process_zero: true,
    is_world_process_zero: true,
    log_history: o.logHistory,
    logging_steps: o.options.loggingSteps,
    max_steps: state.startStep + o.totalSteps,
    num_input_tokens_seen: state.totals.inputTokens,
    num_train_epochs: Math.ceil(o.options.numTrainEpochs),
    save_steps: o.options.saveSteps,
    stateful_callbacks: { TrainerControl: { args: control, attributes: {} } },
    total_flos: 0,
    train_batch_size: o.options.perDeviceTrainBatchSize,
    trial_name: null,
    trial_params: null,
  }
}
