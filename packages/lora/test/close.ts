/**
 * Fails unless |actual - expected| <= tolerance * (|expected| + the tensor's root mean square) for every element: relative,
 * and for elements that are small beside the others relative to those.
 */
export function expectClose(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  if (actual.length !== expected.length || expected.length === 0) {
    throw new Error(`${label}: ${actual.length} elements, expected ${expected.length}`)
  }
  let squares = 0
  for (let i = 0; i < expected.length; i++) squares += expected[i] ** 2
  const typical = Math.sqrt(squares / expected.length)
  let [bad, worst, worstExcess] = [0, 0, 0]
  for (let i = 0; i < expected.length; i++) {
    const excess = Math.abs(actual[i] - expected[i]) / (tolerance * (Math.abs(expected[i]) + typical))
    if (excess <= 1 || actual[i] === expected[i]) continue
    bad += 1
    if (!(excess <= worstExcess)) [worst, worstExcess] = [i, excess]
  }
  if (bad > 0) {
    throw new Error(
      `${label}: ${bad} of ${expected.length} differ; worst at ${worst}: ${actual[worst]}, expected ${expected[worst]} ` +
        `(${worstExcess.toFixed(1)} times the tolerance)`,
    )
  }
}
