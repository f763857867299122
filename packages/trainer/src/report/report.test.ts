import { describe, expect, it } from 'vitest'
import { parseTrainingOptions } from '../options.js'
import type { Evaluation, StepRecord } from '../state.js'
import { drawChart, smooth, thin, ticksOf } from './chart.js'
import type { ReportData } from './data.js'
import { findingsOf } from './findings.js'
import { renderContent, renderPage } from './page.js'

const step = (n: number, loss: number | null, more: Partial<StepRecord> = {}): StepRecord => ({
  run: 1,
  step: n,
  epoch: n / 50,
  loss,
  gradNorm: 0.5,
  learningRate: 1e-4,
  tokens: 40,
  ...more,
})

const evaluation = (n: number, evalLoss: number): Evaluation => ({
  run: 1,
  step: n,
  epoch: n / 50,
  evalLoss,
  evalPerplexity: Math.exp(evalLoss),
  evalTokenAccuracy: 0.5,
  evalTokens: 5000,
})

const data = (change: Partial<ReportData> = {}): ReportData => ({
  status: 'finished',
  message: 'finished after step 100',
  step: 100,
  totalSteps: 100,
  train: Array.from({ length: 100 }, (_, i) => step(i + 1, 3 - i / 100)),
  evaluations: [evaluation(50, 2.8), evaluation(100, 2.1)],
  speeds: [{ run: 1, step: 100, tokensPerSecond: 1234, secondsPerStep: 2, elapsedSeconds: 200, residentBytes: 5e8 }],
  segments: [
    {
      start: {
        event: 'start',
        at: '2026-02-03T04:05:06.000Z',
        run: 1,
        step: 0,
        resumedFrom: null,
        loadSeconds: 60,
        budgetSeconds: 3060,
      },
      end: {
        event: 'end',
        at: '2026-02-03T04:55:06.000Z',
        reason: 'stopped: signal SIGTERM',
        step: 40,
        elapsedSeconds: 1600,
        measured: {},
      },
    },
    {
      start: {
        event: 'start',
        at: '2026-02-03T05:05:06.000Z',
        run: 1,
        step: 40,
        resumedFrom: 'checkpoint-40',
        loadSeconds: 60,
        budgetSeconds: 3060,
      },
      end: null,
    },
  ],
  options: parseTrainingOptions(),
  identity: { model: 'm', data: 'd' },
  about: { Model: { parameters: 7_000_000_000 } },
  environment: { node: 'v20' },
  writtenAt: '2026-02-03T06:00:00.000Z',
  ...change,
})

describe('the report', () => {
  it('is one page that refers to nothing outside it', () => {
    const page = renderPage(data())
    expect(page).not.toMatch(/(src|href)="(?!data:)/)
    expect(page).not.toContain('http')
    expect(page).not.toContain('@import')
    expect(page).not.toContain('<script')
    for (const opened of ['main', 'table', 'svg', 'figure', 'ul', 'section']) {
      expect(page.split(`<${opened}`).length, opened).toBe(page.split(`</${opened}>`).length)
    }
  })

  it('shows the curves, the segments, the evaluations, the facts and the configuration', () => {
    const content = renderContent(data())
    for (const part of [
      'step 100 of 100',
      'Learning rate',
      'Gradient norm',
      'Tokens per second',
      'Memory of the process',
      'stopped: signal SIGTERM',
      'checkpoint-40',
      'goes on, or was killed',
      '100 (best)',
      '7,000,000,000',
      'gradientAccumulationSteps',
      '26:40 of 51:00',
    ]) {
      expect(content).toContain(part)
    }
    expect(content).not.toMatch(/NaN|undefined|Infinity/)
  })

  it('escapes whatever it is given', () => {
    const content = renderContent(data({ message: '<b>"&', about: { '<i>': { '<u>': '<script>alert(1)</script>' } } }))
    expect(content).toContain('&lt;script&gt;alert(1)')
    expect(content).toContain('&lt;b&gt;&quot;&amp;')
    expect(content).not.toMatch(/<script|<u>|<i>/)
  })

  it('can be made before the first step, and of steps that were skipped', () => {
    const empty = renderContent(data({ train: [], evaluations: [], speeds: [], segments: [], step: 0 }))
    expect(empty).not.toMatch(/NaN|undefined|Infinity/)
    const skipped = data({ train: [step(1, null, { gradNorm: null, skipped: 'loss is not finite' })], evaluations: [] })
    expect(renderContent(skipped)).not.toMatch(/NaN|undefined|Infinity/)
  })
})

describe('the findings of a report', () => {
  const texts = (change: Partial<ReportData>): string[] =>
    findingsOf(data(change)).map(({ tone, text }) => `${tone}: ${text}`)

  it('say that a run went well', () => {
    expect(texts({})).toEqual([
      'good: The evaluation loss fell by 25.0%, from 2.8 to 2.1, and was still falling at the last evaluation.',
      'good: The training loss fell: 2.955 in the first tenth of the steps, 2.055 in the last.',
    ])
  })

  it('say where it began to overfit', () => {
    const evaluations = [evaluation(25, 2.8), evaluation(50, 2), evaluation(100, 2.2)]
    expect(texts({ evaluations })[0]).toMatch(
      /^bad: The evaluation loss was best at step 50 \(2\) and has risen by 10\.0% since/,
    )
  })

  it('say what else went wrong, first', () => {
    const train = [
      ...data().train,
      step(101, null, { skipped: 'gradient is not finite' }),
      step(102, 9, { spike: true }),
    ]
    const evaluations = [evaluation(50, 2), evaluation(100, 2.01)]
    expect(texts({ train, evaluations, status: 'diverged', message: 'diverged at step 102' })).toEqual([
      'bad: diverged at step 102',
      'bad: 1 step skipped because a loss or gradient was not finite, or nothing was trained.',
      'bad: The loss jumped at 1 step: look at the data there, or lower the learning rate.',
      'bad: The evaluation loss did not improve: from 2 to 2.01.',
      expect.stringContaining('good: The training loss fell'),
    ])
  })

  it('see that an evaluation loss went nowhere', () => {
    const evaluations = [evaluation(25, 5.817), evaluation(50, 5.81), evaluation(100, 5.842)]
    expect(texts({ evaluations })[0]).toBe('bad: The evaluation loss did not improve: from 5.817 to 5.842.')
  })

  it('do not praise what was never evaluated', () => {
    expect(texts({ evaluations: [] }).at(-1)).toMatch(/^neutral: Nothing was evaluated/)
  })
})

describe('a chart', () => {
  it('has round ticks inside its range', () => {
    expect(ticksOf([0, 10], 5)).toEqual([0, 2, 4, 6, 8, 10])
    expect(ticksOf([1.23, 1.31], 4)).toEqual([1.24, 1.26, 1.28, 1.3])
    expect(ticksOf([3, 212], 5)).toEqual([50, 100, 150, 200])
  })

  it('keeps every peak of a long curve, and the order of its points', () => {
    const points = Array.from({ length: 10_000 }, (_, x) => ({ x, y: x === 7777 ? 100 : x === 1234 ? -100 : x % 2 }))
    const kept = thin(points)
    expect(kept.length).toBeLessThanOrEqual(400)
    expect(kept.map((p) => p.y)).toEqual(expect.arrayContaining([100, -100]))
    expect(kept.every((p, i) => i === 0 || p.x > kept[i - 1].x)).toBe(true)
  })

  it('smooths between the values', () => {
    const points = Array.from({ length: 300 }, (_, x) => ({ x, y: x % 2 }))
    const smoothed = smooth(points)
    expect(smoothed).toHaveLength(300)
    for (const { y } of smoothed.slice(100)) expect(Math.abs(y - 0.5)).toBeLessThan(0.1)
  })

  it('names a limit only where it can be seen', () => {
    const series = [
      {
        name: 'norm',
        look: 'line',
        color: 1,
        points: [
          { x: 1, y: 0.2 },
          { x: 2, y: 0.8 },
        ],
      },
    ] as const
    expect(drawChart({ title: 'a', series, level: { y: 0.5, name: 'limit' } })).toContain('limit')
    expect(drawChart({ title: 'a', series, level: { y: 3, name: 'limit' } })).not.toContain('limit')
  })

  it('is nothing without points, and fine with one', () => {
    const series = [{ name: 'a', look: 'line', color: 1, points: [] as { x: number; y: number }[] }] as const
    expect(drawChart({ title: 'none', series })).toBe('')
    const one = drawChart({ title: 'one', series: [{ ...series[0], points: [{ x: 1, y: 0 }] }] })
    expect(one).toContain('<polyline')
    expect(one).not.toMatch(/NaN|Infinity/)
  })
})
