import { basename } from 'node:path'
import type { EventOf, TrainerEvent, TrainerEvents } from './events.js'
import { MARGIN } from './preference.js'
import { formatClock, formatCount, formatDuration, formatNumber } from './format.js'

/** Where progress is written: `process.stderr`, or anything with the same few members. */
export interface ProgressStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

export interface ProgressOptions {
  readonly stream: ProgressStream
  /** Seconds since the start of the process. */
  readonly elapsed: () => number
  /** Where the stream is not a terminal: seconds between lines about steps. */
  readonly lineSeconds?: number
}

/** Returns the function that ends the display. */
export function showProgress(events: TrainerEvents, options: ProgressOptions): () => void {
  const display = options.stream.isTTY === true ? new LiveLine(options) : new LogLines(options)
  const remove = events.onAny((event) => display.show(event))
  return () => {
    remove()
    display.end()
  }
}

interface Display {
  show(event: TrainerEvent): void
  end(): void
}

/** What every display says in a line of its own; null for what only moves the progress. */
function lineOf(event: TrainerEvent): string | null {
  switch (event.type) {
    case 'start': {
      const run = event.run > 1 ? `run ${event.run}, ` : ''
      const from = event.resumedFrom === null ? 'starting' : `resuming from ${basename(event.resumedFrom)}`
      return `${run}${from}: step ${event.step} of ${event.totalSteps}`
    }
    case 'evaluate': {
      const { step, evalLoss, evalPerplexity, evalTokenAccuracy, metrics } = event.evaluation
      const accuracy = `${(100 * evalTokenAccuracy).toFixed(1)}%`
      const more =
        evalPerplexity === undefined
          ? `${accuracy} of the pairs ranked rightly, reward margin ${formatNumber(metrics?.[MARGIN])}`
          : `perplexity ${formatNumber(evalPerplexity)}, token accuracy ${accuracy}`
      return `step ${step}: eval loss ${formatNumber(evalLoss)}, ${more}`
    }
    case 'save':
      return `step ${event.step}: saved ${basename(event.checkpoint)} in ${formatDuration(event.seconds)}`
    case 'warning':
      return `warning: ${event.message}`
    case 'dashboard':
      return `dashboard: ${event.url}`
    case 'publish':
    case 'stop':
      return event.message
    case 'progress':
    case 'step':
      return null
  }
}

function describeStep({ record, speed }: EventOf<'step'>): string[] {
  const budget = speed.budgetSeconds === null ? '' : ` of ${formatClock(speed.budgetSeconds)}`
  const margin = record.metrics?.[MARGIN]
  return [
    `loss ${formatNumber(record.loss)}`,
    ...(margin === undefined ? [] : [`margin ${formatNumber(margin)}`]),
    `lr ${formatNumber(record.learningRate)}`,
    `${formatCount(speed.tokensPerSecond)} tok/s`,
    `${formatDuration(speed.remainingSeconds)} left`,
    `budget ${formatClock(speed.elapsedSeconds)}${budget}`,
    `grad norm ${formatNumber(record.gradNorm)}`,
    `epoch ${record.epoch.toFixed(2)}`,
  ]
}

/** For files and pipes: whole lines, at most one about steps every few seconds. */
class LogLines implements Display {
  private last = -Infinity
  private latest: EventOf<'step'> | null = null
  private totalSteps = 0

  constructor(private readonly options: ProgressOptions) {}

  show(event: TrainerEvent): void {
    if (event.type === 'start') this.totalSteps = event.totalSteps
    if (event.type === 'step') {
      this.latest = event
      if (this.options.elapsed() - this.last >= (this.options.lineSeconds ?? 10)) this.writeStep()
      return
    }
    const line = lineOf(event)
    if (line === null) return
    if (event.type === 'stop') this.writeStep()
    this.options.stream.write(`${line}\n`)
  }

  end(): void {
    this.writeStep()
  }

  private writeStep(): void {
    if (this.latest === null) return
    const { step } = this.latest.record
    this.options.stream.write(`step ${step}/${this.totalSteps}: ${describeStep(this.latest).join(', ')}\n`)
    this.last = this.options.elapsed()
    this.latest = null
  }
}

const clearLine = '\r\u001b[2K'
const barCells = 20

/** For a terminal: one line that is written over, below the lines that stay. */
class LiveLine implements Display {
  private line = ''
  private totalSteps = 0
  private latest: EventOf<'step'> | null = null

  constructor(private readonly options: ProgressOptions) {}

  show(event: TrainerEvent): void {
    if (event.type === 'start') this.totalSteps = event.totalSteps
    const said = lineOf(event)
    if (said !== null) {
      this.options.stream.write(`${clearLine}${said}\n`)
      if (event.type === 'stop') this.line = ''
      this.options.stream.write(this.line)
      return
    }
    if (event.type === 'step') this.latest = event
    if (event.type === 'step' || event.type === 'progress') this.draw(event)
  }

  end(): void {
    if (this.line !== '') this.options.stream.write(clearLine)
  }

  private draw(event: EventOf<'step'> | EventOf<'progress'>): void {
    const isProgress = event.type === 'progress'
    const step = isProgress ? event.step : event.record.step
    const within = isProgress && event.of > 0 ? event.done / event.of : 0
    const share = (step + (isProgress && event.phase === 'train' ? within : 0)) / Math.max(1, this.totalSteps)
    const filled = Math.min(barCells, Math.round(share * barCells))
    const parts = [`${'█'.repeat(filled)}${'░'.repeat(barCells - filled)} ${step}/${this.totalSteps}`]
    if (isProgress && event.phase === 'evaluate') parts.push(`evaluating ${event.done}/${event.of}`)
    if (this.latest) parts.push(...describeStep(this.withTimeOfNow(this.latest)))
    this.line = fit(parts, (this.options.stream.columns ?? 80) - 1)
    this.options.stream.write(`${clearLine}${this.line}`)
  }

  /** Between two records time goes on. */
  private withTimeOfNow(event: EventOf<'step'>): EventOf<'step'> {
    const elapsedSeconds = this.options.elapsed()
    const since = elapsedSeconds - event.speed.elapsedSeconds
    const remainingSeconds = Math.max(0, event.speed.remainingSeconds - since)
    return { ...event, speed: { ...event.speed, elapsedSeconds, remainingSeconds } }
  }
}

/** As many parts as fit into a line: a line that wraps could not be written over. */
function fit(parts: readonly string[], width: number): string {
  let line = ''
  for (const part of parts) {
    const longer = line === '' ? part : `${line}  ${part}`
    if (longer.length > width) break
    line = longer
  }
  return line
}
