import type { Batch } from '@mirastral/data'
import type { LoraOptions } from '@mirastral/lora'
import type { TrainerEvent, TrainingOptionsInput, TrainResult, TrainStep } from '@mirastral/trainer'
import { batchesOf, rowsOf, StopSource, train, TrainerEvents } from '@mirastral/trainer'
import { identity } from './task.js'
import { tinyRows, tinySaveAdapter, tinyStep } from './tiny-model.js'

export interface TinyRun {
  readonly lora: LoraOptions
  readonly options: TrainingOptionsInput
  readonly trainRows: number
  /** Without it nothing is evaluated. */
  readonly evalRows?: number
  readonly sequenceLength: number | readonly number[]
  /** The step in place of the plain one. */
  readonly step?: () => Promise<TrainStep<Batch>>
  readonly stopWhen?: ((event: TrainerEvent) => boolean) | undefined
}

/** A run of the tiny NF4 model on the engine, and the warnings that it gave. */
export async function tinyRun(folder: string, o: TinyRun): Promise<{ result: TrainResult; warnings: string[] }> {
  const [stop, events] = [new StopSource(), new TrainerEvents()]
  const warnings: string[] = []
  events.onAny((event) => {
    if (event.type === 'warning') warnings.push(event.message)
    if (o.stopWhen?.(event)) stop.request({ kind: 'request', by: 'test' })
  })
  const batching = { batchSize: 1, padTokenId: 0, sequenceLength: o.sequenceLength }
  const result = await train<Batch>({
    outputDir: folder,
    identity,
    step: o.step ?? (() => tinyStep({ lora: o.lora, options: o.options, quantization: 'nf4' })),
    data: {
      train: batchesOf(rowsOf(tinyRows(o.trainRows)), { ...batching, seed: 42 }),
      ...(o.evalRows === undefined ? {} : { eval: batchesOf(rowsOf(tinyRows(o.evalRows)), batching) }),
    },
    saveAdapter: tinySaveAdapter(o.lora),
    handleSignals: false,
    stop,
    events,
    options: o.options,
  })
  return { result, warnings }
}
