import { f32, nf4, sizeOf, type HostTensor, type TensorType } from '@mirastral/engine'
import { architectureOf, checkpointKey, parseModelConfig, type Weights } from '@mirastral/models'
import { quantizeNf4 } from '@mirastral/quant'

const BLOCK = 64
/** Blocks that are drawn and quantized; a tensor's blocks are picked from them at random. */
const POOL = 2 ** 15

/** Numbers of 32 bits (xorshift32). */
function* words(seed: number): Generator<number, never> {
  let x = seed | 1
  for (;;) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    yield x >>> 0
  }
}

function normals(count: number, std: number): Float32Array {
  const numbers = words(7)
  const uniform = (): number => (numbers.next().value + 0.5) / 2 ** 32
  return Float32Array.from(
    { length: count },
    () => std * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

/** Copies blocks of `width` elements that the seed picks from `pool`. */
function fill<T extends Uint8Array | Float32Array>(to: T, pool: T, width: number, seed: number): T {
  const numbers = words(seed)
  for (let at = 0; at < to.length; at += width) {
    const from = (numbers.next().value % POOL) * width
    to.set(pool.subarray(from, from + Math.min(width, to.length - at)), at)
  }
  return to
}

/**
 * A model with normally distributed weights that nobody has to write or read: linear layers in NF4, the rest in
 * float32 with values that bfloat16 holds. */
export function randomModel(json: Readonly<Record<string, unknown>>) {
  const config = parseModelConfig(json)
  const architecture = architectureOf(config)
  const values = normals(POOL * BLOCK, config.initializerRange)
  const { codes, absmax } = quantizeNf4(values, { blockSize: BLOCK, shape: [POOL * BLOCK] })
  const dense = new Float32Array(new Uint32Array(values.buffer).map((bits) => bits & 0xffff0000).buffer)
  const specs = new Map(architecture.parameters(config).map((spec) => [checkpointKey(spec), spec]))
  const typeOf = (kind: string, shape: readonly number[]): TensorType =>
    kind === 'linear' ? nf4(shape) : f32(...shape)
  const get = (key: string): Promise<HostTensor> => {
    const spec = specs.get(key)
    if (!spec) return Promise.reject(new Error(`the model has no ${key}`))
    const { kind, shape } = spec
    const [size, seed] = [
      sizeOf(shape),
      [...key].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 0x01000193), 0x811c9dc5),
    ]
    const type = typeOf(kind, shape)
    if (kind === 'norm') return Promise.resolve({ type, data: new Float32Array(size).fill(1) })
    if (kind !== 'linear') return Promise.resolve({ type, data: fill(new Float32Array(size), dense, BLOCK, seed) })
    return Promise.resolve({
      ...{ quantType: 'nf4', shape, blockSize: BLOCK, dtype: 'bfloat16' },
      codes: fill(new Uint8Array(size / 2), codes, BLOCK / 2, seed),
      absmax: fill(new Float32Array(size / BLOCK), absmax, 1, seed),
    })
  }
  const types = new Map([...specs].map(([key, { kind, shape }]) => [key, typeOf(kind, shape)]))
  const weights: Weights = { types, get, close: () => Promise.resolve() }
  return { architecture, config, weights }
}
