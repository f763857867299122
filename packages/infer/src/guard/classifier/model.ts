import { readFileSync } from 'node:fs'
import { InferError } from '../../errors.js'
import type { FeatureVector } from './features.js'

/**
 * One logistic regression per label over the same hashed features. Weights are kept as signed bytes: the weight of label l in
 * bucket b is `weights[l * buckets + b] * scales[l]`.
 */
export interface LinearClassifier {
  readonly labels: readonly string[]
  readonly buckets: number
  readonly biases: readonly number[]
  readonly scales: readonly number[]
  readonly weights: Int8Array
}

const magic = 'MIRAGUARD1'

/** The probability of each label. */
export function classify(model: LinearClassifier, features: FeatureVector): Map<string, number> {
  return new Map(
    model.labels.map((label, l) => {
      let sum = 0
      features.indices.forEach((bucket, i) => {
        sum += (model.weights[l * model.buckets + bucket] ?? 0) * (features.values[i] ?? 0)
      })
      return [label, 1 / (1 + Math.exp(-(sum * (model.scales[l] ?? 0) + (model.biases[l] ?? 0))))]
    }),
  )
}

/** The file: a magic word, the length of a JSON header as uint32 (little endian), the header, the weights as bytes. */
export function encodeClassifier(model: LinearClassifier): Uint8Array {
  const { weights, ...header } = model
  const json = new TextEncoder().encode(JSON.stringify(header))
  const bytes = new Uint8Array(magic.length + 4 + json.length + weights.length)
  bytes.set(new TextEncoder().encode(magic), 0)
  new DataView(bytes.buffer).setUint32(magic.length, json.length, true)
  bytes.set(json, magic.length + 4)
  bytes.set(new Uint8Array(weights.buffer, weights.byteOffset, weights.length), magic.length + 4 + json.length)
  return bytes
}

/** @throws InferError MIRASTRAL_INFER_GUARD if the bytes are not a classifier file. */
export function decodeClassifier(bytes: Uint8Array, what = 'the classifier file'): LinearClassifier {
  const fail = (): InferError =>
    new InferError('MIRASTRAL_INFER_GUARD', `guard: ${what} is damaged; install the package again`)
  const start = magic.length + 4
  if (bytes.length < start || new TextDecoder().decode(bytes.subarray(0, magic.length)) !== magic) throw fail()
  const headerLength = new DataView(bytes.buffer, bytes.byteOffset).getUint32(magic.length, true)
  if (start + headerLength > bytes.length) throw fail()
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + headerLength))) as LinearClassifier
  const weights = Int8Array.from(bytes.subarray(start + headerLength), (byte) => (byte << 24) >> 24)
  if (weights.length !== header.labels.length * header.buckets) throw fail()
  return { ...header, weights }
}

export function loadClassifier(path: string): LinearClassifier {
  return decodeClassifier(readFileSync(path), path)
}
