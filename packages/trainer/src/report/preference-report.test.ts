import { describe, expect, it } from 'vitest'
import { parseTrainingOptions } from '../options.js'
import type { Evaluation, StepRecord } from '../state.js'
import type { ReportData } from './data.js'
import { findingsOf } from './findings.js'
import { renderContent } from './page.js'

const rewards = (chosen: number, margin: number): Record<string, number> => ({
  'rewards/chosen': chosen,
  'rewards/rejected': chosen - margin,
  'rewards/accuracies': 0.75,
  'rewards/margins': margin,
})

const step = (n: number): StepRecord => ({
  run: 1,
  step: n,
  epoch: n / 20,
  loss: Math.LN2 - n / 100,
  gradNorm: 1,
  learningRate: 1e-5,
  tokens: 4,
  metrics: rewards(n / 100, n / 50),
})

const evaluation = (n: number, evalLoss: number, more: Partial<Evaluation> = {}): Evaluation => ({
  run: 1,
  step: n,
  epoch: n / 20,
  evalLoss,
  evalTokenAccuracy: 0.75,
  evalTokens: 40,
  metrics: rewards(0.2, 0.4),
  ...more,
})

const data = (change: Partial<ReportData> = {}): ReportData => ({
  status: 'finished',
  message: 'finished after step 20',
  step: 20,
  totalSteps: 20,
  train: Array.from({ length: 20 }, (_, i) => step(i + 1)),
  evaluations: [evaluation(10, 0.65), evaluation(20, 0.55)],
  speeds: [],
  segments: [],
  options: parseTrainingOptions(),
  identity: { model: 'm', data: 'd' },
  about: {},
  environment: {},
  writtenAt: '2026-02-03T06:00:00.000Z',
  ...change,
})

const texts = (change: Partial<ReportData>): string[] =>
  findingsOf(data(change)).map(({ tone, text }) => `${tone}: ${text}`)

describe('the report of a run on pairs', () => {
  it('speaks of pairs, rewards and margins, and not of tokens or perplexity', () => {
    const page = renderContent(data())
    for (const said of [
      'pairs ranked rightly',
      'reward margin',
      '<b>80</b><span>pairs trained on, repeats counted</span>',
      'Rewards, smoothed',
      'Reward margin: chosen less rejected',
      'no preference (0.693)',
      '<th class="number">Right</th><th class="number">Margin</th>',
      'dpoBeta',
    ])
      expect(page).toContain(said)
    expect(page).not.toMatch(/perplexity|token accuracy/i)
  })

  it('says whether the chosen answers win', () => {
    expect(texts({})).toContain(
      'good: The chosen answer is preferred in 75% of the held-out pairs, by a reward margin of 0.4.',
    )
    const chance = [evaluation(20, 0.7, { evalTokenAccuracy: 0.45 })]
    expect(texts({ evaluations: chance })).toContain(
      'bad: The chosen answer is preferred in only 45% of the held-out pairs: no better than chance.',
    )
    const few = [evaluation(20, 0.6, { evalTokens: 2 })]
    expect(texts({ evaluations: few })).toContain(
      'neutral: Only 2 pairs were evaluated on, which is too few to rely on.',
    )
  })

  it('warns where the chosen answers themselves become unlikely', () => {
    const falling = [evaluation(20, 0.6, { metrics: rewards(-0.5, 0.9) })]
    expect(texts({ evaluations: falling })[0]).toMatch(
      /^bad: The chosen answers have become less likely than they were without the adapter \(reward -0\.5\)/,
    )
  })
})

describe('the report of a run on conversations', () => {
  const plain = data().train.map(({ metrics: _, ...record }) => ({ ...record, loss: 2 }))
  const evaluations = [evaluation(10, 3.1), evaluation(20, 3)].map(({ metrics: _, ...e }) => ({
    ...e,
    evalPerplexity: 20,
  }))

  it('tells what was seen from what was held out, and few tokens from many', () => {
    const found = texts({ train: plain, evaluations })
    expect(found).toContain(
      'neutral: The model does better on what it was trained on (loss 2) than on what was held out (3): more data would help more than more epochs.',
    )
    expect(found).toContain(
      'neutral: Only 40 tokens were evaluated on: small differences between evaluations say little.',
    )
  })

  it('puts first what was chosen, and leaves out what plays no part', () => {
    const page = renderContent(data({ train: plain, evaluations, options: parseTrainingOptions({ weightDecay: 0.5 }) }))
    const [chosen, usual] = page.split('Options at their defaults')
    expect(chosen).toContain('<th>weightDecay</th>')
    expect(chosen).not.toContain('<th>adamBeta1</th>')
    expect(usual).toContain('<th>adamBeta1</th>')
    expect(page).not.toMatch(/dpoBeta|initialLossScale|maxSteps/)
  })

  it('does not take the search for a loss scale for trouble', () => {
    const train = plain.map((record, i) =>
      i < 2 ? { ...record, loss: null, skipped: 'float16 overflow' as const } : record,
    )
    expect(texts({ train, evaluations })).toContain(
      'neutral: 2 steps skipped while the loss scale of float16 was found.',
    )
  })
})
