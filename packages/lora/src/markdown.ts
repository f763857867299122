/** A cell of a Markdown table: one line, no bar that would end it, no markup that would be rendered. */
export function cell(value: unknown): string {
  const text = Array.isArray(value) ? value.join(', ') : String(value)
  return text.replace(/[\r\n]+/g, ' ').replace(/[\\`*_[\]<>|]/g, (c) => `\\${c}`)
}

/** A Markdown table; nothing when there are no rows. */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  if (rows.length === 0) return ''
  const lines = [head, head.map(() => '---'), ...rows.map((row) => row.map(cell))]
  return lines.map((row) => `| ${row.join(' | ')} |`).join('\n')
}

export function bullets(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n')
}

/** Values that YAML's plain style cannot confuse with something else are left bare, all others quoted as JSON. */
function scalar(value: string): string {
  return /^[A-Za-z][\w./-]*$/.test(value) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(value)
    ? value
    : JSON.stringify(value)
}

/** YAML front matter of a model card: keys with one value or a list of them; keys without a value are left out. */
export function frontMatter(fields: Readonly<Record<string, string | readonly string[] | null>>): string {
  const lines = Object.entries(fields).flatMap(([key, value]) => {
    if (value === null || value.length === 0) return []
    if (typeof value === 'string') return [`${key}: ${scalar(value)}`]
    return [`${key}:`, ...value.map((item) => `- ${scalar(item)}`)]
  })
  return `---\n${lines.join('\n')}\n---\n`
}

/** At most `limit` items, the first and the last among them, evenly spaced. */
export function thin<T>(items: readonly T[], limit: number): T[] {
  if (items.length <= limit) return [...items]
  return Array.from({ length: limit }, (_, i) => items[Math.round((i * (items.length - 1)) / (limit - 1))])
}

/** A number in few digits: 1234567 gives `1,234,567`, 0.00002 gives `2e-5`. */
export function number(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en-US')
  if (value !== 0 && Math.abs(value) < 1e-3) return String(Number(value.toPrecision(4)))
  return Number(value.toPrecision(5)).toLocaleString('en-US', { maximumFractionDigits: 5 })
}

/** A duration such as `2 h 5 min`, `3 min 20 s`, `4.2 s`. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${number(Number(seconds.toFixed(1)))} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Bytes as MB or GB, decimal. */
export function bytes(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(1)} MB`
}
