import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Batch } from '@mirastral/data'
import type { InitialAdapter, LoraOptions } from '@mirastral/lora'
import {
  denseParameters,
  initializeAdapter,
  loadAdapter,
  modulesOfModel,
  parseLoraConfig,
  plainLora,
  planLora,
  reopenAdapter,
  saveAdapter,
} from '@mirastral/lora'
import type { EvaluateResult, TrainerEvent, TrainResult, TrainStep } from '@mirastral/trainer'
import { batchesOf, createTrainStep, inspectRun, rowsOf, StopSource, train, TrainerEvents } from '@mirastral/trainer'
import { describe, expect, it } from 'vitest'
import { outcomeOf, temporaryFolder } from './support/runs.js'
import { identity } from './support/task.js'
import { tinyRequest, tinyRows } from './support/tiny-model.js'

const targetModules = ['q_proj', 'o_proj', 'down_proj']
const inits: LoraOptions['initLoraWeights'][] = [true, 'gaussian', 'orthogonal', 'pissa', 'pissa_niter_4', 'olora']
const options = {
  learningRate: 5e-3,
  maxSteps: 4,
  gradientAccumulationSteps: 2,
  maxLength: 16,
  saveSteps: 2,
  budgetMinutes: null,
  tensorboard: false,
}
const batching = { batchSize: 1, padTokenId: 0, sequenceLength: 16 }
const probe = batchesOf(rowsOf(tinyRows(3)), { ...batching, batchSize: 3 }).get(0, 0)

/** One start of a program: everything is made anew, or read from the newest checkpoint. */
async function start(
  folder: string,
  init: LoraOptions['initLoraWeights'],
  o: { seed?: number; data?: string; stopWhen?: (event: TrainerEvent) => boolean } = {},
): Promise<{ result: TrainResult; trained: EvaluateResult | null }> {
  const lora = { r: 4, loraAlpha: 8, targetModules, ...(init !== undefined && { initLoraWeights: init }) }
  const request = await tinyRequest({ lora: { ...lora, initLoraWeights: true }, options, quantization: 'nf4' })
  const { architecture, config, weights } = request.model
  const modules = modulesOfModel(architecture.parameters(config))
  const plan = planLora(parseLoraConfig(lora), modules)
  const { checkpoint } = await inspectRun(folder)
  let made: Promise<InitialAdapter> | null = null
  const adapter = (): Promise<InitialAdapter> =>
    (made ??=
      checkpoint === null
        ? initializeAdapter(plan, { seed: o.seed ?? 1, readParameter: denseParameters(weights) })
        : reopenAdapter(checkpoint, plan, modules))
  const stop = new StopSource()
  const events = new TrainerEvents()
  events.onAny((event) => o.stopWhen?.(event) === true && stop.request({ kind: 'request', by: 'test' }))
  let step: TrainStep<Batch> | null = null
  let trained: EvaluateResult | null = null
  const result = await train<Batch>({
    outputDir: folder,
    identity: { ...identity, data: o.data ?? 'rows' },
    step: async () => {
      step = await createTrainStep({ ...request, adapter: await adapter() })
      const dispose = step.dispose.bind(step)
      const evaluate = step.evaluate.bind(step)
      step.dispose = async () => {
        trained = await evaluate(await probe)
        await dispose()
      }
      return step
    },
    data: {
      train: batchesOf(rowsOf(tinyRows(6)), { ...batching, seed: 42 }),
      eval: batchesOf(rowsOf(tinyRows(2)), batching),
    },
    saveAdapter: async (target, tensors) =>
      saveAdapter(target, plainLora({ plan, tensors }, (await adapter()).subtracted)),
    handleSignals: false,
    stop,
    events,
    options,
  })
  return { result, trained }
}

/** What a plain LoRA reader makes of a saved folder, on the base model as it is. */
async function evaluatePlain(folder: string): Promise<EvaluateResult> {
  const request = await tinyRequest({ lora: { r: 4, targetModules }, options, quantization: 'nf4' })
  const { architecture, config } = request.model
  const { adapter } = await loadAdapter(folder, modulesOfModel(architecture.parameters(config)))
  const step = await createTrainStep({ ...request, adapter: { ...adapter, subtracted: new Map() } })
  const result = await step.evaluate(await probe)
  await step.dispose()
  return result
}

describe.each(inits)('an adapter that began as %s', (init) => {
  it('is saved as plain LoRA for the base as it is, with the same losses, at a checkpoint and at the end', async () => {
    const folder = await temporaryFolder()
    const { result, trained } = await start(folder, init)
    expect(result.status).toBe('finished')
    for (const saved of ['results/checkpoint-4', 'final_model']) {
      const plain = await evaluatePlain(join(folder, saved))
      expect(plain.tokens).toBe(trained?.tokens)
      expect(plain.lossSum).toBeCloseTo(trained?.lossSum ?? NaN, 3)
    }
  })

  it('goes on to the same bits, in a window and between steps, and its final model can be made by a later start', async () => {
    const whole = await temporaryFolder()
    await start(whole, init)
    const folder = await temporaryFolder()
    await start(folder, init, { stopWhen: (e) => e.type === 'progress' && e.step === 1 })
    // Another seed would begin elsewhere: nothing but the checkpoint may decide.
    await start(folder, init, { stopWhen: (e) => e.type === 'step' && e.record.step === 3, seed: 99 })
    await start(folder, init, { seed: 98 })
    await rm(join(folder, 'final_model'), { recursive: true })
    expect((await start(folder, init, { seed: 97 })).result.status).toBe('finished')
    expect(await outcomeOf(folder, 'checkpoint-4')).toEqual(await outcomeOf(whole, 'checkpoint-4'))
  })
})

it('a PiSSA run on new data goes on from the adapter and what it took off the base, whatever the seed', async () => {
  const folders = [await temporaryFolder(), await temporaryFolder()]
  for (const [i, folder] of folders.entries()) {
    await start(folder, 'pissa')
    expect((await start(folder, 'pissa', { data: 'more', seed: 1 + i })).result).toMatchObject({ run: 2, step: 8 })
  }
  const [first, second] = folders
  expect(await outcomeOf(second, 'checkpoint-8')).toEqual(await outcomeOf(first, 'checkpoint-8'))
})
