import type { QuantType } from './codebook.js'
import { codebook } from './codebook.js'

/** Errors of quantization, |w - dequantized w|, in units of the weights' standard deviation. */
export interface ExpectedError {
  meanAbs: number
  rms: number
}

/**
 * The error that 4-bit quantization makes of independent Gaussian weights, by numeric integration over the absmax m of
 * a block. m, in standard deviations, has the density 2 B phi(m) (2 Phi(m) - 1)^(B - 1); given m, one weight of the
 * block is m itself and has the error of the outermost code, the others follow the Gaussian cut off at m, for
 * which |x - c m| and (x - c m)^2 integrate in closed form between the decision thresholds t m.
 */
export function expectedError(quantType: QuantType, blockSize: number): ExpectedError {
  const { values, thresholds, codeOfRank } = codebook(quantType)
  const cells = Array.from(codeOfRank, (code, rank) => ({
    center: values[code],
    low: rank === 0 ? -1 : thresholds[rank - 1],
    high: rank === 15 ? 1 : thresholds[rank],
  }))
  const steps = 4000
  const limit = 12
  let weight = 0
  let absolute = 0
  let squared = 0
  for (let step = 0; step < steps; step++) {
    const m = ((step + 0.5) * limit) / steps
    const inside = 2 * normalDistribution(m) - 1
    const density = 2 * blockSize * normalDensity(m) * inside ** (blockSize - 1)
    if (density < 1e-14) continue
    let abs = 0
    let square = 0
    for (const { center, low, high } of cells) {
      abs += absoluteDeviation(low * m, high * m, center * m)
      square += squaredDeviation(low * m, high * m, center * m)
    }
    // Both +m and -m are code values of their own: the largest weight of a block has no error.
    const others = (blockSize - 1) / blockSize / inside
    weight += density
    absolute += density * abs * others
    squared += density * square * others
  }
  return { meanAbs: absolute / weight, rms: Math.sqrt(squared / weight) }
}

/** The largest error possible, in units of the block's absmax: half of the widest gap between neighbouring values. */
export function largestError(quantType: QuantType): number {
  const { values, codeOfRank } = codebook(quantType)
  const sorted = Array.from(codeOfRank, (code) => values[code])
  return Math.max(...sorted.slice(1).map((value, i) => (value - sorted[i]) / 2))
}

function normalDensity(x: number): number {
  return Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)
}

/** The normal distribution function, to 1e-15: a series for small arguments, a continued fraction for large ones. */
function normalDistribution(x: number): number {
  if (x < 0) return 1 - normalDistribution(-x)
  if (x < 3) {
    let term = x
    let total = x
    for (let k = 1; Math.abs(term) > 1e-17 * total; k++) {
      term *= (x * x) / (2 * k + 1)
      total += term
    }
    return 0.5 + normalDensity(x) * total
  }
  let fraction = x
  for (let k = 60; k > 0; k--) fraction = x + k / fraction
  return 1 - normalDensity(x) / fraction
}

/** Integral of |x - c| phi(x) from a to b, for c within. */
function absoluteDeviation(a: number, b: number, c: number): number {
  // The antiderivative of (x - c) phi(x) is -phi(x) - c Phi(x).
  const at = (x: number): number => -normalDensity(x) - c * normalDistribution(x)
  return at(b) - 2 * at(c) + at(a)
}

/** Integral of (x - c)^2 phi(x) from a to b. */
function squaredDeviation(a: number, b: number, c: number): number {
  const at = (x: number): number => (1 + c * c) * normalDistribution(x) + (2 * c - x) * normalDensity(x)
  return at(b) - at(a)
}
