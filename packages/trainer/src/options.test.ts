import { describe, expect, it } from 'vitest'
import { TrainerError } from './errors.js'
import { parseTrainingOptions, trainingOptionNames } from './options.js'

const messageOf = (input: unknown): string => {
  try {
    parseTrainingOptions(input as never)
  } catch (error) {
    expect(error).toBeInstanceOf(TrainerError)
    expect(error).toMatchObject({ code: 'MIRASTRAL_TRAINER_OPTIONS', exitCode: 2 })
    return (error as Error).message
  }
  throw new Error('no error was thrown')
}

describe('training options', () => {
  it('default to the recipe of the model card', () => {
    expect(parseTrainingOptions()).toMatchObject({
      learningRate: 2e-5,
      perDeviceTrainBatchSize: 1,
      gradientAccumulationSteps: 4,
      numTrainEpochs: 3,
      lrSchedulerType: 'linear',
      saveSteps: 100,
      budgetMinutes: 51,
      maxGradNorm: 1,
      maxLength: 256,
      warmupSteps: 0,
      weightDecay: 0,
      adamBeta1: 0.9,
      adamBeta2: 0.999,
      adamEpsilon: 1e-8,
      seed: 42,
    })
  })

  it('report every problem at once, with the value that was given', () => {
    const message = messageOf({
      learningRate: -1,
      maxSteps: 0,
      lrSchedulerType: 'square',
      seed: 'x',
      learningrate: 1,
      warmupSteps: 5,
      warmupRatio: 0.1,
    })
    for (const part of ['learningRate', '-1', 'maxSteps', 'lrSchedulerType', '"square"', 'seed', '"x"']) {
      expect(message).toContain(part)
    }
    expect(message).toContain('unknown option learningrate')
    expect(message).toContain('not both')
    expect(message).not.toContain('\n')
  })

  it('refuse combinations that contradict each other', () => {
    expect(messageOf({ warmupSteps: 5, warmupRatio: 0.1 })).toContain('not both')
    expect(messageOf({ lrSchedulerType: 'constant', warmupSteps: 5 })).toContain('constantWithWarmup')
    expect(messageOf({ evalStrategy: 'no', earlyStoppingPatience: 2 })).toContain('earlyStoppingPatience')
    expect(messageOf({ evalStrategy: 'no', loadBestModelAtEnd: true })).toContain('loadBestModelAtEnd')
  })

  it('read the upstream spelling of a schedule', () => {
    expect(parseTrainingOptions({ lrSchedulerType: 'constant_with_warmup' }).lrSchedulerType).toBe('constantWithWarmup')
  })

  it('list their names', () => {
    expect(trainingOptionNames).toContain('gradientAccumulationSteps')
  })
})
