import type { JsonValue } from '../checkpoint.js'
import { formatClock, formatCount, formatDuration, formatNumber } from '../format.js'
import { parseTrainingOptions, trainingOptionNames } from '../options.js'
import { MARGIN } from '../preference.js'
import type { Segment } from '../segment-log.js'
import type { Evaluation } from '../state.js'
import { smooth } from './chart.js'
import { lossPoints, renderCharts } from './charts.js'
import type { ReportData } from './data.js'
import { isPreference } from './data.js'
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
    data.evaluations.length > 0 ? `<h2>Evaluations</h2>${renderEvaluations(data)}` : '',
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
  const pairs = isPreference(data)
  if (evaluation) {
    tiles.push([formatNumber(evaluation.evalLoss), 'evaluation loss'])
    if (!pairs) tiles.push([formatNumber(evaluation.evalPerplexity), 'perplexity'])
    tiles.push([percent(evaluation.evalTokenAccuracy), pairs ? 'pairs ranked rightly' : 'token accuracy'])
    if (pairs) tiles.push([formatNumber(evaluation.metrics?.[MARGIN]), 'reward margin'])
  }
  if (last) tiles.push([last.epoch.toFixed(2), `of ${formatNumber(data.options.numTrainEpochs)} epochs`])
  tiles.push([formatCount(trainedTokens), pairs ? 'pairs trained on, repeats counted' : 'trained tokens'])
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

function renderEvaluations(data: ReportData): string {
  const { evaluations } = data
  const best = evaluations.reduce((a, b) => (b.evalLoss < a.evalLoss ? b : a))
  const columns: [string, (e: Evaluation) => string][] = [
    ['Epoch', (e) => e.epoch.toFixed(2)],
    ['Loss', (e) => formatNumber(e.evalLoss)],
    ...(isPreference(data)
      ? ([
          ['Right', (e) => percent(e.evalTokenAccuracy)],
          ['Margin', (e) => formatNumber(e.metrics?.[MARGIN])],
        ] satisfies [string, (e: Evaluation) => string][])
      : ([
          ['Perplexity', (e) => formatNumber(e.evalPerplexity)],
          ['Accuracy', (e) => percent(e.evalTokenAccuracy)],
        ] satisfies [string, (e: Evaluation) => string][])),
  ]
  const head = columns.map(([name]) => `<th class="number">${name}</th>`).join('')
  const rows = evaluations.map((e) => {
    const cells = columns.map(([, show]) => `<td class="number">${show(e)}</td>`).join('')
    return `<tr><th>${formatCount(e.step)}${e === best ? ' (best)' : ''}</th>${cells}</tr>`
  })
  return `<div class="table"><table><thead><tr><th>Step</th>${head}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`

function renderFacts(data: ReportData): string {
  const { about, identity, environment } = data
  const { chosen, usual } = configurationOf(data)
  const cards = Object.entries({ ...about, Configuration: chosen, Environment: environment })
    .filter(([, facts]) => Object.keys(facts).length > 0)
    .map(([heading, facts]) => `<section class="table"><h3>${escapeHtml(heading)}</h3>${tableOf(facts)}</section>`)
  // What few readers look for is one tap away.
  const more = Object.entries({ 'Options at their defaults': usual, 'Identity (hashes)': identity }).map(
    ([heading, facts]) => `<details class="table"><summary>${escapeHtml(heading)}</summary>${tableOf(facts)}</details>`,
  )
  return `<div class="cards">${[...cards, ...more].join('')}</div>`
}

function tableOf(facts: Readonly<Record<string, JsonValue>>): string {
  const rows = Object.entries(facts).map(([name, value]) => {
    return `<tr><th>${escapeHtml(name)}</th><td class="value">${escapeHtml(showFact(value))}</td></tr>`
  })
  return `<table><tbody>${rows.join('')}</tbody></table>`
}

/** Shown whatever they are: what a reader asks for first. */
const asked = new Set(['learningRate', 'lrSchedulerType', 'numTrainEpochs', 'perDeviceTrainBatchSize', 'gradientAccumulationSteps', 'maxLength', 'seed', 'precision']) // prettier-ignore

/** The options that matter in this run: those that were chosen, and those that are at their defaults. */
function configurationOf(data: ReportData): Record<'chosen' | 'usual', Record<string, JsonValue>> {
  const { options } = data
  const defaults = parseTrainingOptions()
  const found: Record<'chosen' | 'usual', Record<string, JsonValue>> = { chosen: {}, usual: {} }
  for (const name of trainingOptionNames) {
    const isPair = name.startsWith('dpo')
    if (isPair !== isPreference(data) && isPair) continue
    if (name === 'initialLossScale' && options.precision !== 'float16') continue
    // What was switched off says nothing.
    if (options[name] === null || options[name] === false || (name === 'maxSteps' && options[name] === -1)) continue
    const isChosen = asked.has(name) || isPair || options[name] !== defaults[name]
    found[isChosen ? 'chosen' : 'usual'][name] = options[name]
  }
  return found
}

function showFact(value: JsonValue): string {
  if (typeof value === 'number') return Number.isInteger(value) && value > 9999 ? formatCount(value) : String(value)
  return typeof value === 'string' ? value : JSON.stringify(value)
}
