import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { InferError } from '../../errors.js'
import { checkForm } from '../../package-data.js'
import type { GuardNetwork } from './network.js'

const magic = 'MIRAGUARD3'

const headerSchema = z.strictObject({
  labels: z.array(z.string()).min(1),
  /** One for each row of the vectors from the third on, joined by spaces. */
  words: z.string(),
  markers: z.array(z.string()),
  width: z.int().positive(),
  markerWidth: z.int().positive(),
  hidden: z.int().positive(),
  layers: z.int().positive(),
  heads: z.int().positive(),
  tensors: z.array(z.tuple([z.string(), z.int().positive()])),
})

/**
 * The file: a magic word, the length of a JSON header as uint32, the header, the vectors' scales as float32, the other tensors
 * as float32 in the header's order, the vectors as signed bytes. Numbers are little-endian.
 */
export function encodeNetwork(network: GuardNetwork): Uint8Array {
  const { labels, words, markers, vectors, weights, ...sizes } = network
  const header: z.infer<typeof headerSchema> = {
    labels: [...labels],
    words: [...words.keys()].join(' '),
    markers: [...markers.keys()],
    ...sizes,
    tensors: [...weights].map(([name, data]) => [name, data.length]),
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const floats = [vectors.scales, ...weights.values()]
  const start = magic.length + 4 + json.length
  const bytes = new Uint8Array(start + floats.reduce((sum, f) => sum + 4 * f.length, 0) + vectors.values.length)
  bytes.set(new TextEncoder().encode(magic), 0)
  const view = new DataView(bytes.buffer)
  view.setUint32(magic.length, json.length, true)
  bytes.set(json, magic.length + 4)
  let at = start
  for (const array of floats) for (const value of array) view.setFloat32((at += 4) - 4, value, true)
  bytes.set(new Uint8Array(vectors.values.buffer, vectors.values.byteOffset, vectors.values.length), at)
  return bytes
}

/** @throws InferError MIRASTRAL_INFER_GUARD if the bytes are not a whole network file. */
export function decodeNetwork(bytes: Uint8Array, what = 'the network file'): GuardNetwork {
  const fail = (): InferError =>
    new InferError('MIRASTRAL_INFER_GUARD', `guard: ${what} is damaged; install the package again`, { exitCode: 1 })
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const textOf = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, to))
  const start = magic.length + 4
  if (bytes.length < start || textOf(0, magic.length) !== magic) throw fail()
  let at = start + view.getUint32(magic.length, true)
  if (at > bytes.length) throw fail()
  const header = parseHeader(textOf(start, at), what, fail)
  const { words, markers, tensors, ...sizes } = header
  const list = words.split(' ')
  const rows = list.length + 2
  const floats = rows + tensors.reduce((sum, [, length]) => sum + length, 0)
  if (bytes.length !== at + 4 * floats + rows * header.width) throw fail()
  const read = (length: number): Float32Array =>
    Float32Array.from({ length }, () => view.getFloat32((at += 4) - 4, true))
  const scales = read(rows)
  const weights = new Map(tensors.map(([name, length]) => [name, read(length)]))
  const values = Int8Array.from(new Int8Array(bytes.buffer, bytes.byteOffset + at, rows * header.width))
  return {
    ...sizes,
    words: new Map(list.map((word, i) => [word, i + 2])),
    markers: new Map(markers.map((name, i) => [name, i])),
    vectors: { values, scales },
    weights,
  }
}

function parseHeader(json: string, what: string, fail: () => InferError): z.infer<typeof headerSchema> {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw fail()
  }
  return checkForm(value, `guard: ${what}`, headerSchema, 'MIRASTRAL_INFER_GUARD')
}

export function loadNetwork(path: string): GuardNetwork {
  return decodeNetwork(readFileSync(path), path)
}

/** Rows rounded to signed bytes, each with its own scale. */
export function quantizeRows(data: Float32Array, width: number): GuardNetwork['vectors'] {
  const scales = new Float32Array(data.length / width)
  const values = new Int8Array(data.length)
  for (let row = 0; row < scales.length; row += 1) {
    const part = data.subarray(row * width, (row + 1) * width)
    const scale = part.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127
    scales[row] = scale
    if (scale > 0)
      values.set(
        part.map((x) => Math.round(x / scale)),
        row * width,
      )
  }
  return { values, scales }
}
