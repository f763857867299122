import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readLines, runTask, temporaryFolder } from './support/runs.js'
import { makeEvaluation, makePairs, makeStep, makeWorseningStep } from './support/task.js'

describe('evaluation', () => {
  it('is per trained token over the whole split, with perplexity and accuracy', async () => {
    const folder = await temporaryFolder()
    const { result } = await runTask(folder, { options: { learningRate: 0, maxSteps: 1 } })
    const source = makeEvaluation(5)
    let [lossSum, tokens, correct] = [0, 0, 0]
    for (let i = 0; i < source.length; i++) {
      const batch = await makeStep().evaluate(await source.get(0, i))
      lossSum += batch.lossSum
      tokens += batch.tokens
      correct += batch.correct
    }
    expect(result.evaluation).toEqual({
      run: 1,
      step: 1,
      epoch: 4 / 21,
      evalLoss: lossSum / tokens,
      evalPerplexity: Math.exp(lossSum / tokens),
      evalTokenAccuracy: correct / tokens,
      evalTokens: tokens,
    })
  })

  it.each([
    { options: { evalStrategy: 'steps', evalSteps: 5 } as const, steps: [5, 10, 12] },
    { options: { evalStrategy: 'epoch' } as const, steps: [6, 12] },
    { options: { evalStrategy: 'no' } as const, steps: [12] },
    { options: { evalStrategy: 'epoch', evalOnStart: true } as const, steps: [0, 6, 12] },
  ])('comes when $options says, and at the end', async ({ options, steps }) => {
    const folder = await temporaryFolder()
    const { events } = await runTask(folder, { options })
    expect((await readLines(folder, 'eval.jsonl')).map((line) => line.step)).toEqual(steps)
    expect(events.filter((e) => e.type === 'evaluate')).toHaveLength(steps.length)
  })

  it('does not happen without evaluation data', async () => {
    const folder = await temporaryFolder()
    const { result } = await runTask(folder, { data: { train: makePairs(21) } })
    expect(result).toMatchObject({ status: 'finished', evaluation: null })
  })

  it('ends a run early after as many evaluations without improvement as patience allows', async () => {
    const folder = await temporaryFolder()
    const options = { evalSteps: 1, earlyStoppingPatience: 3, loadBestModelAtEnd: true }
    const { result, warnings } = await runTask(folder, { step: makeWorseningStep(5, 2), options })
    expect(result).toMatchObject({ status: 'finished', step: 5, exitCode: 0 })
    expect(warnings).toEqual(['step 5: stops early: 3 evaluations without improvement'])
    expect(await readdir(join(folder, 'results'))).toContain('checkpoint-2')
    const again = await runTask(folder, { options })
    expect(again.result.status).toBe('nothing-new')
  })

  it('counts an improvement below the threshold as none', async () => {
    const folder = await temporaryFolder()
    const options = { evalSteps: 1, earlyStoppingPatience: 2, earlyStoppingThreshold: 2 }
    const { result } = await runTask(folder, { step: makeWorseningStep(5, 12), options })
    expect(result).toMatchObject({ status: 'finished', step: 3 })
  })
})
