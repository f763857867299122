import { formatNumber } from '../format.js'
import { escapeHtml } from './html.js'

export interface Point {
  readonly x: number
  readonly y: number
}

export interface Series {
  readonly name: string
  /** `faint` for raw values behind a smoothed line, `marks` for few values that matter one by one. */
  readonly look: 'line' | 'faint' | 'marks'
  /** Which of the palette's colours. */
  readonly color: 1 | 2 | 3
  readonly points: readonly Point[]
}

export interface ChartOptions {
  readonly title: string
  readonly series: readonly Series[]
  /** Vertical lines: resumes and new runs. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[]
  /** Horizontal line with a name, such as a limit: drawn where it lies among the values, or `always`. */
  readonly level?: { readonly y: number; readonly name: string; readonly always?: boolean }
  readonly format?: (y: number) => string
  readonly startAtZero?: boolean
  /** The least range of the vertical axis, as a share of the largest value: noise must not fill the chart. */
  readonly minSpan?: number
  /** No value can be above this. */
  readonly highest?: number
}

const width = 640
const height = 300
const margin = { left: 96, right: 18, top: 14, bottom: 40 }
/** More points than pixels add nothing but bytes. */
const maxPoints = 400

interface Scale {
  readonly domain: readonly [number, number]
  readonly toPixel: (value: number) => number
}

/** An SVG line chart over optimizer steps, with its heading and legend. Empty string if there is nothing to draw. */
export function drawChart(options: ChartOptions): string {
  const points = options.series.flatMap((series) => series.points.filter((p) => Number.isFinite(p.y)))
  if (points.length === 0) return ''
  const format = options.format ?? formatNumber
  const x = scaleOf(
    points.map((p) => p.x),
    [margin.left, width - margin.right],
    {},
  )
  const y = scaleOf(
    [...points.map((p) => p.y), ...(options.level?.always === true ? [options.level.y] : [])],
    [height - margin.bottom, margin.top],
    options,
  )
  const level = options.level && isInside(options.level.y, y) ? options.level : undefined
  const body = [
    drawGrid(x, y, format),
    ...(options.marks ?? []).map((mark) => drawMark(mark, x)),
    level ? drawLevel(level, y) : '',
    ...options.series.map((series) => drawSeries(series, x, y, format)),
  ]
  const label = `${options.title}, by optimizer step`
  return `<figure class="chart"><figcaption><h3>${escapeHtml(options.title)}</h3>${drawLegend(options.series, level)}</figcaption>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(label)}">${body.join('')}</svg></figure>`
}

function drawLegend(series: readonly Series[], level: ChartOptions['level']): string {
  const entries = series
    .filter((s) => s.points.length > 0)
    .map((s) => `<li><i class="swatch ${s.look} c${s.color}"></i>${escapeHtml(s.name)}</li>`)
  if (level) entries.push(`<li><i class="swatch level"></i>${escapeHtml(level.name)}</li>`)
  return entries.length > 1 ? `<ul class="legend">${entries.join('')}</ul>` : ''
}

function scaleOf(
  values: readonly number[],
  [from, to]: readonly [number, number],
  { startAtZero = false, minSpan = 0, highest = Infinity }: Pick<ChartOptions, 'startAtZero' | 'minSpan' | 'highest'>,
): Scale {
  let low = values.reduce((a, b) => Math.min(a, b), Infinity)
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity)
  if (startAtZero) low = Math.min(0, low)
  const missing = minSpan * Math.max(Math.abs(low), Math.abs(high)) - (high - low)
  if (missing > 0) {
    low -= missing / 2
    high += missing / 2
  }
  if (low === high) {
    const room = Math.abs(low) * 0.1 || 1
    low -= startAtZero && low === 0 ? 0 : room
    high += room
  }
  high = Math.min(high, highest)
  const toPixel = (value: number): number => from + ((value - low) / (high - low)) * (to - from)
  return { domain: [low, high], toPixel }
}

/** Round numbers inside a range: 1, 2 or 5 times a power of ten apart, about `count` of them. */
export function ticksOf([low, high]: readonly [number, number], count: number): number[] {
  const rough = (high - low) / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= 0.7 * rough) ?? 10)
  const first = Math.ceil(low / step - 1e-9)
  const last = Math.floor(high / step + 1e-9)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

function drawGrid(x: Scale, y: Scale, format: (y: number) => string): string {
  const rows = ticksOf(y.domain, 4).map((value) => {
    const at = y.toPixel(value).toFixed(1)
    const line = `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${at}" y2="${at}"/>`
    return `${line}<text class="tick" x="${margin.left - 8}" y="${at}" dy="0.32em" text-anchor="end">${escapeHtml(format(value))}</text>`
  })
  const columns = ticksOf(x.domain, 5)
    .filter((value) => Number.isInteger(value))
    .map((value) => {
      const at = x.toPixel(value).toFixed(1)
      return `<text class="tick" x="${at}" y="${height - margin.bottom + 24}" text-anchor="middle">${formatNumber(value)}</text>`
    })
  const base = height - margin.bottom
  columns.push(`<text class="tick" x="${margin.left - 8}" y="${base + 24}" text-anchor="end">step</text>`)
  return `${rows.join('')}<line class="axis" x1="${margin.left}" x2="${width - margin.right}" y1="${base}" y2="${base}"/>${columns.join('')}`
}

function drawMark({ x: at, label }: { x: number; label: string }, x: Scale): string {
  if (!isInside(at, x)) return ''
  const pixel = x.toPixel(at).toFixed(1)
  return `<line class="mark" x1="${pixel}" x2="${pixel}" y1="${margin.top}" y2="${height - margin.bottom}"><title>${escapeHtml(label)}</title></line>`
}

function drawLevel({ y: value }: { y: number }, y: Scale): string {
  const at = y.toPixel(value).toFixed(1)
  return `<line class="level" x1="${margin.left}" x2="${width - margin.right}" y1="${at}" y2="${at}"/>`
}

function isInside(value: number, { domain }: Scale): boolean {
  return value >= domain[0] && value <= domain[1]
}

function drawSeries({ look, color, points, name }: Series, x: Scale, y: Scale, format: (y: number) => string): string {
  const finite = points.filter((p) => Number.isFinite(p.y))
  const position = (p: Point): string => `${x.toPixel(p.x).toFixed(1)},${y.toPixel(p.y).toFixed(1)}`
  const path = thin(finite).map(position).join(' ')
  const line = `<polyline class="${look} c${color}" points="${path}"/>`
  if (look !== 'marks') return line
  const dots = finite.map((p) => {
    const [cx, cy] = position(p).split(',')
    const title = `${name}, step ${p.x}: ${format(p.y)}`
    return `<circle class="c${color}" cx="${cx}" cy="${cy}" r="4"><title>${escapeHtml(title)}</title></circle>`
  })
  return line + dots.join('')
}

/** Keeps the lowest and the highest point of every bucket, so that no peak is lost. */
export function thin(points: readonly Point[]): readonly Point[] {
  if (points.length <= maxPoints) return points
  const size = Math.ceil(points.length / (maxPoints / 2))
  const kept: Point[] = []
  for (let at = 0; at < points.length; at += size) {
    const bucket = points.slice(at, at + size)
    const low = bucket.reduce((a, b) => (b.y < a.y ? b : a))
    const high = bucket.reduce((a, b) => (b.y > a.y ? b : a))
    kept.push(...(low === high ? [low] : low.x < high.x ? [low, high] : [high, low]))
  }
  return kept
}

/** Exponential mean whose memory is a thirtieth of the points; begins at the first value. */
export function smooth(points: readonly Point[]): Point[] {
  const weight = 1 / Math.max(1, points.length / 30)
  let mean: number | null = null
  return points
    .filter((p) => Number.isFinite(p.y))
    .map(({ x, y }) => {
      mean = mean === null ? y : mean + weight * (y - mean)
      return { x, y: mean }
    })
}
