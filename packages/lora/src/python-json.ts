/** A value that JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** A number that Python holds as a float, so that 0 is written as `0.0`. */
export class PythonFloat {
  constructor(readonly value: number) {}
}

/** {@link Json} in which some numbers are known to be floats. */
export type PythonJson =
  null | boolean | number | string | PythonFloat | readonly PythonJson[] | { readonly [key: string]: PythonJson }

/** Python's `repr` of a float: shortest digits that read back, a point or an exponent always there. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  if (Object.is(value, -0)) return '-0.0'
  const exponent = value === 0 ? 0 : Number(value.toExponential().split('e')[1])
  if (exponent < -4 || exponent >= 16) {
    const [digits, power] = value.toExponential().split('e') as [string, string]
    return `${digits}e${power.charAt(0)}${power.slice(1).padStart(2, '0')}`
  }
  const text = String(value)
  return /[.]/.test(text) ? text : `${text}.0`
}

/** JSON's string form with everything outside ASCII escaped, as Python's `ensure_ascii` does. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => {
    const code = c.charCodeAt(0)
    return code === 0x7f ? c : `\\u${code.toString(16).padStart(4, '0')}`
  })
}

/** Compares by code points, as Python sorts strings. */
function byCodePoint(a: string, b: string): number {
  const x = [...a]
  const y = [...b]
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const difference = (x[i]?.codePointAt(0) ?? 0) - (y[i]?.codePointAt(0) ?? 0)
    if (difference !== 0) return difference
  }
  return x.length - y.length
}

/** The keys of an object in the order in which Python's `json.dumps(sort_keys=True)` writes them. */
export function sortedKeys(value: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(value).sort(byCodePoint)
}

/** The bytes of Python's `json.dumps(value, indent=2, sort_keys=True)`. */
export function pythonJson(value: PythonJson, indent = ''): string {
  if (value instanceof PythonFloat) return pythonFloat(value.value)
  if (typeof value === 'string') return pythonString(value)
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : pythonFloat(value)
  if (value === null || typeof value === 'boolean') return String(value)
  const inner = `${indent}  `
  if (Array.isArray(value)) {
    const items = (value as readonly PythonJson[]).map((item) => `${inner}${pythonJson(item, inner)}`)
    return items.length === 0 ? '[]' : `[\n${items.join(',\n')}\n${indent}]`
  }
  const record = value as Readonly<Record<string, PythonJson>>
  const items = sortedKeys(record).map((key) => {
    return `${inner}${pythonString(key)}: ${pythonJson(record[key] ?? null, inner)}`
  })
  return items.length === 0 ? '{}' : `{\n${items.join(',\n')}\n${indent}}`
}
