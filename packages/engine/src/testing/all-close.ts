import type { Tolerance } from './tolerances.js'

/**
 * Compares whole tensors. Returns null where every element is within the tolerance, otherwise one line with the number
 * of bad elements and the worst of them. NaN equals NaN only.
 */
export function differenceOf(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): string | null {
  if (actual.length !== expected.length) return `${actual.length} elements, expected ${expected.length}`
  let [bad, worst, worstExcess] = [0, -1, 0]
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i], expected[i]]
    if (Object.is(a, e) || a === e) continue
    const excess = Math.abs(a - e) / (tolerance.absolute + tolerance.relative * Math.abs(e))
    if (excess <= 1) continue
    bad++
    if (worst < 0 || !(excess <= worstExcess)) [worst, worstExcess] = [i, excess]
  }
  if (bad === 0) return null
  return `${bad} of ${expected.length} differ; worst at ${worst}: ${actual[worst]}, expected ${expected[worst]}`
}

/** Throws with the label and the worst element unless all are close. */
export function expectAllClose(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): void {
  const difference = differenceOf(actual, expected, tolerance)
  if (difference) throw new Error(`${label}: ${difference}`)
}
