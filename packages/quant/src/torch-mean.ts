/**
 * The mean of float32 values as PyTorch computes it on an x86 CPU, bit for bit: the offset of double quantization is
 * such a mean, and a sum of floats depends on its order. The order is that of aten/src/ATen/native/cpu/SumKernel.cpp
 * (`cascade_sum`) with vectors of 8 lanes, which is also what builds with AVX-512 use.
 *
 * `threads` is PyTorch's: from 32768 values on it sums a stretch per thread. One thread is the only choice that does
 * not depend on a machine.
 */
export function torchMean(values: Float32Array, threads = 1): number {
  const count = values.length
  return Math.fround(sumInParts(values, threads) / count)
}

const lanes = 8
/** Additions run in so many independent rows of vectors. */
const rows = 4
/** Partial sums of partial sums, so that few roundings hit large numbers. */
const levels = 4
/** Fewest values that a thread of PyTorch is given (at::internal::GRAIN_SIZE). */
const grain = 32768

function sumInParts(values: Float32Array, threads: number): number {
  if (values.length < grain || threads === 1) return sum(values)
  const parts = Math.min(threads, Math.ceil(values.length / grain))
  const partLength = Math.ceil(values.length / parts)
  const partialSums = new Float32Array(threads)
  for (let i = 0; i < parts; i++) partialSums[i] = sum(values.subarray(i * partLength, (i + 1) * partLength))
  return sum(partialSums)
}

function sum(values: Float32Array): number {
  if (values.length < lanes) return sumVectors(values, 1)[0]
  const vectors = sumVectors(values.subarray(0, values.length - (values.length % lanes)), lanes)
  let total = 0
  for (const value of values.subarray(values.length - (values.length % lanes))) total = Math.fround(total + value)
  for (const value of vectors) total = Math.fround(total + value)
  return total
}

/** Sums vectors of `width` values (a divisor of the length) to one. */
function sumVectors(values: Float32Array, width: number): Float32Array {
  const size = Math.floor(values.length / width)
  const steps = Math.floor(size / rows)
  const acc = cascade(values, steps, rows * width)
  const total = acc.subarray(0, width)
  for (let i = steps * rows; i < size; i++) addTo(total, values, i * width)
  for (let row = 1; row < rows; row++) addTo(total, acc, row * width)
  return total
}

/** Sums `steps` stretches of `stride` values elementwise, over a hierarchy of partial sums. */
function cascade(values: Float32Array, steps: number, stride: number): Float32Array {
  const power = Math.max(4, Math.floor(ceilLog2(steps) / levels))
  const stepLength = 2 ** power
  const acc = Array.from({ length: levels }, () => new Float32Array(stride))
  const whole = steps - (steps % stepLength)
  for (let i = 0; i < steps; i++) {
    addTo(acc[0], values, i * stride)
    const done = i + 1
    if (done > whole || done % stepLength !== 0) continue
    for (let level = 1; level < levels; level++) {
      addTo(acc[level], acc[level - 1])
      acc[level - 1].fill(0)
      // This level is full as well only where its digit, in base stepLength, has come round to zero.
      if (Math.floor(done / stepLength ** level) % stepLength !== 0) break
    }
  }
  for (let level = 1; level < levels; level++) addTo(acc[0], acc[level])
  return acc[0]
}

function addTo(target: Float32Array, values: Float32Array, start = 0): void {
  for (let i = 0; i < target.length; i++) target[i] += values[start + i]
}

function ceilLog2(value: number): number {
  return value <= 1 ? 0 : 32 - Math.clz32(value - 1)
}
