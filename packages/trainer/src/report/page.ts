import type { JsonValue } from '../checkpoint.js'
import { formatBytes, formatClock, formatCount, formatDuration, formatNumber } from '../format.js'
import type { TrainingOptions } from '../options.js'
import type { Segment } from '../segment-log.js'
import type { Evaluation } from '../state.js'
import { drawChart, smooth } from './chart.js'
import type { Point } from './chart.js'
import type { ReportData } from './data.js'
import { findingsOf } from './findings.js'
import { escapeHtml } from './html.js'
import { reportStyle } from './style.js'

/** A whole page without references to anything outside it. */
export function renderPage(data: ReportData, extra: { readonly script?: string } = {}): string {
  const script = extra.script === undefined ? '' : `<script>${extra.script}</script>`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(titleOf(data))}</title><link rel="icon" href="data:,"><style>${reportStyle}</style></head>
<body><main>${renderContent(data)}</main>${script}</body></html>
`
}

/** What changes while a run goes: the inside of `<main>`. */
export function renderContent(data: ReportData): string {
  return [
    renderHead(data),
    renderFindings(data),
    '<h2>Curves</h2>',
    renderCharts(data),
    '<h2>Segments and time</h2>',
    renderSegments(data.segments),
    data.evaluations.length > 0 ? `<h2>Evaluations</h2>${renderEvaluations(data.evaluations)}` : '',
    '<h2>What was trained</h2>',
    renderFacts(data),
    `<footer>Written ${escapeHtml(data.writtenAt.replace('T', ' ').slice(0, 19))} UTC by MiraStral. This page holds counts, curves and hashes only, nothing of any conversation.</footer>`,
  ].join('\n')
}

function titleOf({ step, totalSteps }: ReportData): string {
  if (totalSteps === 0) return 'Training report'
  return `Training report: step ${formatCount(step)} of ${formatCount(totalSteps)}`
}

function renderHead(data: ReportData): string {
  const share = Math.min(100, (100 * data.step) / Math.max(1, data.totalSteps))
  const tiles = tilesOf(data).map(
    ([value, name]) => `<li><b>${escapeHtml(value)}</b><span>${escapeHtml(name)}</span></li>`,
  )
  return `<header><span class="state ${escapeHtml(data.status)}">${escapeHtml(data.status)}</span>
<h1>${escapeHtml(titleOf(data))}</h1><p class="sub">${escapeHtml(data.message)}</p>
<div class="bar"><i style="width:${share.toFixed(1)}%"></i></div></header><ul class="tiles">${tiles.join('')}</ul>`
}

function tilesOf(data: ReportData): [string, string][] {
  const last = data.train.at(-1)
  const evaluation = data.evaluations.at(-1)
  const trainedTokens = data.train.reduce((sum, record) => sum + record.tokens, 0)
  const smoothed = smooth(lossPoints(data)).at(-1)
  const seconds = data.segments.reduce(
    (sum, { start, end }) => sum + (end ? end.elapsedSeconds - start.loadSeconds : 0),
    0,
  )
  const tiles: [string, string][] = [[formatNumber(smoothed?.y), 'training loss, smoothed']]
  if (evaluation) {
    tiles.push([formatNumber(evaluation.evalLoss), 'evaluation loss'])
    tiles.push([formatNumber(evaluation.evalPerplexity), 'perplexity'])
    tiles.push([`${(100 * evaluation.evalTokenAccuracy).toFixed(1)}%`, 'token accuracy'])
  }
  if (last) tiles.push([last.epoch.toFixed(2), `of ${formatNumber(data.options.numTrainEpochs)} epochs`])
  tiles.push([formatCount(trainedTokens), 'trained tokens'])
  tiles.push([formatCount(meanSpeed(data)), 'tokens per second'])
  if (seconds > 0) tiles.push([formatDuration(seconds), 'training time'])
  tiles.push([String(data.segments.filter((s) => s.start.resumedFrom !== null).length), 'resumes'])
  return tiles
}

function meanSpeed({ speeds }: ReportData): number {
  const seconds = speeds.reduce((sum, s) => sum + s.secondsPerStep, 0)
  const tokens = speeds.reduce((sum, s) => sum + s.secondsPerStep * s.tokensPerSecond, 0)
  return seconds > 0 ? tokens / seconds : 0
}

function renderFindings(data: ReportData): string {
  const items = findingsOf(data).map(({ tone, text }) => `<li class="${tone}">${escapeHtml(text)}</li>`)
  return `<ul class="findings">${items.join('')}</ul>`
}

const lossPoints = (data: ReportData): Point[] => data.train.map(({ step, loss }) => ({ x: step, y: loss ?? NaN }))

function renderCharts(data: ReportData): string {
  const { train, evaluations, speeds, segments, options } = data
  const marks = segments
    .filter(({ start }) => start.step > 0)
    .map(({ start }) => ({
      x: start.step,
      label: `${start.resumedFrom === null ? 'new run' : 'resumed'} at step ${start.step}`,
    }))
  const evalPoints = (pick: (e: Evaluation) => number): Point[] => evaluations.map((e) => ({ x: e.step, y: pick(e) }))
  const raw = lossPoints(data)
  const level =
    options.maxGradNorm > 0 ? { y: options.maxGradNorm, name: `clipped at ${options.maxGradNorm}` } : undefined
  const charts = [
    drawChart({
      title: 'Loss',
      marks,
      series: [
        { name: 'training, each step', look: 'faint', color: 1, points: raw },
        { name: 'training, smoothed', look: 'line', color: 1, points: smooth(raw) },
        { name: 'evaluation', look: 'marks', color: 2, points: evalPoints((e) => e.evalLoss) },
      ],
    }),
    drawChart({
      title: 'Learning rate',
      marks,
      startAtZero: true,
      series: [
        { name: 'learning rate', look: 'line', color: 1, points: train.map((r) => ({ x: r.step, y: r.learningRate })) },
      ],
    }),
    drawChart({
      title: 'Gradient norm before clipping',
      marks,
      startAtZero: true,
      ...(level && { level }),
      series: [
        { name: 'norm', look: 'line', color: 3, points: train.map((r) => ({ x: r.step, y: r.gradNorm ?? NaN })) },
      ],
    }),
    drawChart({
      title: 'Token accuracy of evaluations',
      marks,
      format: (y) => `${formatNumber(100 * y)}%`,
      series: [{ name: 'accuracy', look: 'marks', color: 2, points: evalPoints((e) => e.evalTokenAccuracy) }],
    }),
    drawChart({
      title: 'Tokens per second',
      marks,
      startAtZero: true,
      series: [
        { name: 'tokens/s', look: 'line', color: 3, points: speeds.map((s) => ({ x: s.step, y: s.tokensPerSecond })) },
      ],
    }),
    drawChart({
      title: 'Memory of the process',
      marks,
      startAtZero: true,
      format: formatBytes,
      series: [
        { name: 'memory', look: 'line', color: 1, points: speeds.map((s) => ({ x: s.step, y: s.residentBytes })) },
      ],
    }),
  ]
  return `<div class="charts">${charts.join('\n')}</div>`
}

function renderSegments(segments: readonly Segment[]): string {
  const rows = segments.map((segment, i) => {
    const { start, end } = segment
    const from = start.resumedFrom ?? (start.step > 0 ? 'new run' : 'start')
    const elapsed = end ? formatClock(end.elapsedSeconds) : '-'
    const budget = start.budgetSeconds === null ? 'no limit' : formatClock(start.budgetSeconds)
    const steps = end?.step === null || end?.step === undefined ? `${start.step} to ?` : `${start.step} to ${end.step}`
    const how = end ? end.reason : 'goes on, or was killed'
    return `<tr><th>${i + 1}</th><td class="plain">${escapeHtml(start.at.replace('T', ' ').slice(0, 16))}</td><td class="plain">${escapeHtml(from)}</td><td class="number">${steps}</td><td class="number">${elapsed} of ${budget}${drawTime(segment)}</td><td class="value why">${escapeHtml(how)}</td></tr>`
  })
  return `<div class="table"><table><thead><tr><th>Segment</th><th>Began (UTC)</th><th>From</th><th class="number">Steps</th><th class="number">Time</th><th>End</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>
<p class="sub">Time is counted from the start of the process: loading first, then training.</p>`
}

/** Loading and training as shares of the budget (of the segment itself, where there is no limit). */
function drawTime({ start, end }: Segment): string {
  const whole = start.budgetSeconds ?? end?.elapsedSeconds ?? 0
  if (whole <= 0 || !end) return ''
  const share = (seconds: number): string => `${Math.min(100, (100 * seconds) / whole).toFixed(1)}%`
  const title = `loading ${formatDuration(start.loadSeconds)}, training ${formatDuration(end.elapsedSeconds - start.loadSeconds)}`
  return `<div class="time" title="${escapeHtml(title)}"><i class="load" style="width:${share(start.loadSeconds)}"></i><i style="width:${share(end.elapsedSeconds - start.loadSeconds)}"></i></div>`
}

function renderEvaluations(evaluations: readonly Evaluation[]): string {
  const best = evaluations.reduce((a, b) => (b.evalLoss < a.evalLoss ? b : a))
  const rows = evaluations.map((e) => {
    const cells = [
      formatNumber(e.evalLoss),
      formatNumber(e.evalPerplexity),
      `${(100 * e.evalTokenAccuracy).toFixed(2)}%`,
    ]
    return `<tr><th>${formatCount(e.step)}${e === best ? ' (best)' : ''}</th><td class="number">${e.epoch.toFixed(2)}</td>${cells.map((c) => `<td class="number">${c}</td>`).join('')}</tr>`
  })
  return `<div class="table"><table><thead><tr><th>Step</th><th class="number">Epoch</th><th class="number">Loss</th><th class="number">Perplexity</th><th class="number">Accuracy</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function renderFacts({ about, options, identity, environment }: ReportData): string {
  const cards = Object.entries({
    ...about,
    Configuration: visibleOptions(options),
    Identity: identity,
    Environment: environment,
  })
  const rendered = cards
    .filter(([, facts]) => Object.keys(facts).length > 0)
    .map(([heading, facts]) => {
      const rows = Object.entries(facts).map(([name, value]) => {
        return `<tr><th>${escapeHtml(name)}</th><td class="value">${escapeHtml(showFact(value))}</td></tr>`
      })
      return `<section class="table"><h3>${escapeHtml(heading)}</h3><table><tbody>${rows.join('')}</tbody></table></section>`
    })
  return `<div class="cards">${rendered.join('')}</div>`
}

/** What was switched off says nothing. */
function visibleOptions(options: TrainingOptions): Record<string, JsonValue> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null && value !== false))
}

function showFact(value: JsonValue): string {
  if (typeof value === 'number') return Number.isInteger(value) && value > 9999 ? formatCount(value) : String(value)
  return typeof value === 'string' ? value : JSON.stringify(value)
}
