// The process that bench/chaos.ts kills: a real run of the trainer on its smallest model, slowed down so that every phase
// lasts long enough to be hit. Tells each phase on its standard output. Usage: chaos-child.ts <output folder> [merge]
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { train } from '@mirastral/trainer'
import { identity, makeEvaluation, makePairs, makeStep, saveAdapter } from '../packages/trainer/test/support/task.js'

const folder = process.argv[2]

/** Written at once, so that the parent knows the phase of a process that dies in the next moment. */
const tell = (phase: string): void => void writeSync(1, `${phase}\n`)

function slowStep(): ReturnType<typeof makeStep> {
  const step = makeStep()
  const [accumulate, evaluate] = [step.accumulate.bind(step), step.evaluate.bind(step)]
  step.accumulate = async (...given) => {
    tell('train')
    await sleep(2)
    return accumulate(...given)
  }
  step.evaluate = async (...given) => {
    tell('evaluate')
    await sleep(2)
    return evaluate(...given)
  }
  return step
}

tell('start')
const result = await train({
  outputDir: folder,
  identity,
  step: async () => {
    tell('load')
    await sleep(20)
    return slowStep()
  },
  data: async () => {
    tell('data')
    await sleep(20)
    return { train: makePairs(31), eval: makeEvaluation(4) }
  },
  saveAdapter: async (...given) => {
    tell(given[2] === 'final' ? 'final' : 'save')
    await saveAdapter(...given)
    await sleep(5)
  },
  options: {
    learningRate: 0.05,
    numTrainEpochs: 2,
    gradientAccumulationSteps: 4,
    saveSteps: 3,
    evalStrategy: 'steps',
    evalSteps: 4,
    budgetMinutes: null,
    saveTotalLimit: 3,
    loadBestModelAtEnd: true,
    mergeMicroBatches: process.argv[3] === 'merge',
  },
})
tell(`end ${result.status}`)
process.exitCode = result.exitCode
