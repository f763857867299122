import { formatBytes, formatNumber } from '../format.js'
import { MARGIN } from '../preference.js'
import type { Evaluation, StepRecord } from '../state.js'
import type { ChartOptions, Point } from './chart.js'
import { drawChart, smooth } from './chart.js'
import type { ReportData } from './data.js'
import { isPreference } from './data.js'

const percent = (y: number): string => `${formatNumber(100 * y)}%`

/** The loss of each logged step; NaN where all steps since the last one were skipped. */
export const lossPoints = (data: ReportData): Point[] =>
  data.train.map(({ step, loss }) => ({ x: step, y: loss ?? NaN }))

/** All curves: what is learned first, then how. */
export function renderCharts(data: ReportData): string {
  const marks = data.segments
    .filter(({ start }) => start.step > 0)
    .map(({ start }) => ({
      x: start.step,
      label: `${start.resumedFrom === null ? 'new run' : 'resumed'} at step ${start.step}`,
    }))
  const learned = isPreference(data)
    ? [lossChart(data), ...preferenceCharts(data)]
    : [lossChart(data), accuracyChart(data)]
  const charts = [...learned, ...courseCharts(data)].map((chart) => drawChart({ ...chart, marks }))
  return `<div class="charts">${charts.join('\n')}</div>`
}

const evalPoints = ({ evaluations }: ReportData, pick: (e: Evaluation) => number | undefined): Point[] =>
  evaluations.map((e) => ({ x: e.step, y: pick(e) ?? NaN }))

const trainPoints = ({ train }: ReportData, pick: (record: StepRecord) => number | null | undefined): Point[] =>
  train.map((record) => ({ x: record.step, y: pick(record) ?? NaN }))

function lossChart(data: ReportData): ChartOptions {
  const raw = lossPoints(data)
  const indifferent = isPreference(data) && data.options.dpoLossType === 'sigmoid'
  return {
    title: 'Loss',
    minSpan: 0.02,
    ...(indifferent && { level: { y: Math.LN2, name: 'no preference (0.693)', always: true } }),
    series: [
      { name: 'training, each step', look: 'faint', color: 1, points: raw },
      { name: 'training, smoothed', look: 'line', color: 1, points: smooth(raw) },
      { name: 'evaluation', look: 'marks', color: 2, points: evalPoints(data, (e) => e.evalLoss) },
    ],
  }
}

const accuracyChart = (data: ReportData): ChartOptions => ({
  title: 'Token accuracy of evaluations',
  format: percent,
  minSpan: 0.05,
  highest: 1,
  series: [{ name: 'accuracy', look: 'marks', color: 2, points: evalPoints(data, (e) => e.evalTokenAccuracy) }],
})

function preferenceCharts(data: ReportData): ChartOptions[] {
  const reward = (name: string): Point[] => smooth(trainPoints(data, (r) => r.metrics?.[`rewards/${name}`]))
  return [
    {
      title: 'Rewards, smoothed',
      series: [
        { name: 'chosen answers', look: 'line', color: 3, points: reward('chosen') },
        { name: 'rejected answers', look: 'line', color: 2, points: reward('rejected') },
      ],
    },
    {
      title: 'Reward margin: chosen less rejected',
      series: [
        { name: 'training, smoothed', look: 'line', color: 1, points: reward('margins') },
        { name: 'evaluation', look: 'marks', color: 2, points: evalPoints(data, (e) => e.metrics?.[MARGIN]) },
      ],
    },
    {
      title: 'Pairs ranked rightly',
      format: percent,
      startAtZero: true,
      highest: 1,
      series: [
        { name: 'training, smoothed', look: 'line', color: 1, points: reward('accuracies') },
        { name: 'evaluation', look: 'marks', color: 2, points: evalPoints(data, (e) => e.evalTokenAccuracy) },
      ],
    },
  ]
}

/** How the run went: rate, gradients, speed, memory. */
function courseCharts(data: ReportData): ChartOptions[] {
  const { maxGradNorm } = data.options
  const clipping = { level: { y: maxGradNorm, name: `clipped at ${maxGradNorm}` } }
  const speeds = (pick: 'tokensPerSecond' | 'residentBytes'): Point[] =>
    data.speeds.map((speed) => ({ x: speed.step, y: speed[pick] }))
  return [
    {
      title: 'Gradient norm before clipping',
      startAtZero: true,
      ...(maxGradNorm > 0 && clipping),
      series: [{ name: 'norm', look: 'line', color: 3, points: trainPoints(data, (r) => r.gradNorm) }],
    },
    {
      title: 'Learning rate',
      startAtZero: true,
      series: [{ name: 'learning rate', look: 'line', color: 1, points: trainPoints(data, (r) => r.learningRate) }],
    },
    {
      title: 'Tokens per second',
      startAtZero: true,
      series: [{ name: 'tokens/s', look: 'line', color: 3, points: speeds('tokensPerSecond') }],
    },
    {
      title: 'Memory of the process',
      startAtZero: true,
      format: formatBytes,
      series: [{ name: 'memory', look: 'line', color: 1, points: speeds('residentBytes') }],
    },
  ]
}
