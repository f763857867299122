/**
 * `json.dumps(value, ensure_ascii=False)`: the JSON that models of this family were trained on, with a space after every
 * comma and colon. A whole number has no ".0", because a JavaScript number does not remember it.
 */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(', ')}]`
  if (typeof value === 'number') return pythonNumber(value)
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined)
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}: ${pythonJson(member)}`).join(', ')}}`
  }
  return JSON.stringify(value) ?? 'null'
}

/** Python's repr of a float: an exponent below 1e-4, of at least two digits. */
function pythonNumber(value: number): string {
  if (!Number.isFinite(value)) return 'null'
  const size = Math.abs(value)
  if (size === 0 || size >= 1e-4) return String(value)
  return value.toExponential().replace(/e-(\d)$/, 'e-0$1')
}
