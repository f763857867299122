import { SafetensorsFile } from '@mirastral/safetensors'
import { join } from 'node:path'
import type { TrainerEvent, TrainResult } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { outcomeOf, readLines, temporaryFolder } from './support/runs.js'
import { tinyRun } from './support/tiny-run.js'

const lora = { r: 4, loraAlpha: 8, loraDropout: 0.1, targetModules: ['q_proj', 'v_proj', 'down_proj'] }
const options = {
  learningRate: 5e-3,
  numTrainEpochs: 2,
  gradientAccumulationSteps: 3,
  maxLength: 16,
  saveSteps: 2,
  neftuneNoiseAlpha: 5,
  loraplusLrRatio: 4,
  labelSmoothingFactor: 0.1,
  lrSchedulerType: 'cosine' as const,
  warmupSteps: 1,
  weightDecay: 0.01,
  budgetMinutes: null,
  tensorboard: false,
}

/** An NF4 model with dropout, NEFTune, LoRA+ and label smoothing, on the engine. */
async function run(folder: string, stopWhen?: (event: TrainerEvent) => boolean): Promise<TrainResult> {
  const rows = { trainRows: 8, evalRows: 3, sequenceLength: [8, 16] }
  return (await tinyRun(folder, { lora, options, ...rows, stopWhen })).result
}

describe('a real model on the engine', () => {
  it('that is stopped in a window, in an evaluation and between steps gives the bits of the uninterrupted run', async () => {
    const whole = await temporaryFolder()
    expect(await run(whole)).toMatchObject({ status: 'finished', step: 6 })
    const folder = await temporaryFolder()
    const stops: ((event: TrainerEvent) => boolean)[] = [
      (e) => e.type === 'progress' && e.step === 1 && e.done === 2,
      (e) => e.type === 'progress' && e.phase === 'evaluate' && e.done === 1,
      (e) => e.type === 'step' && e.record.step === 5,
    ]
    for (const stopWhen of stops) expect(await run(folder, stopWhen)).toMatchObject({ status: 'stopped' })
    expect(await run(folder)).toMatchObject({ status: 'finished', step: 6 })
    expect(await outcomeOf(folder, 'checkpoint-6')).toEqual(await outcomeOf(whole, 'checkpoint-6'))
  })

  it('learns, and leaves every checkpoint with the keys that PEFT expects', async () => {
    const folder = await temporaryFolder()
    await run(folder)
    const losses = (await readLines(folder, 'eval.jsonl')).map((line) => line.evalLoss as number)
    expect(losses[1]).toBeLessThan(losses[0])
    const file = await SafetensorsFile.open(join(folder, 'results', 'checkpoint-4', 'adapter_model.safetensors'))
    await file.close()
    expect(file.tensors.get('base_model.model.model.layers.1.mlp.down_proj.lora_B.weight')?.shape).toEqual([32, 4])
    expect(file.tensors.size).toBe(12)
  })
})
