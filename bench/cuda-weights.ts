import { sizeOf, type HostTensor, type Program, type Session, type TensorType } from '@mirastral/engine'

/** Random 16-bit or 32-bit floats are repeated from a block of this many elements. */
const BLOCK = 2 ** 20

/** A quick generator (xorshift32); good enough for weights. */
function* uniform(seed: number): Generator<number, never> {
  let x = seed | 1
  for (;;) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    yield (x >>> 0) / 2 ** 32
  }
}

function repeated<T extends Float32Array | Uint16Array | Uint8Array>(to: T, block: T): T {
  for (let at = 0; at < to.length; at += block.length)
    to.set(block.subarray(0, Math.min(block.length, to.length - at)), at)
  return to
}

const bf16Bits = (x: number): number => new Uint32Array(Float32Array.of(x).buffer)[0] >>> 16

/** Random weights of a type with standard deviation near `std`. */
export function randomWeights(type: TensorType, std: number, seed: number): HostTensor {
  const numbers = uniform(seed)
  const next = (): number => numbers.next().value
  const size = sizeOf(type.shape)
  const length = Math.min(size, BLOCK)
  const value = (): number => (next() - 0.5) * std * Math.sqrt(12)
  if (type.dtype === 'nf4') {
    const blockSize = type.blockSize ?? 64
    const codes = repeated(
      new Uint8Array(Math.ceil(size / 2)),
      Uint8Array.from({ length }, () => next() * 256),
    )
    // Uniform NF4 codes have a standard deviation of 0.58 of their scale.
    const absmax = repeated(
      new Float32Array(Math.ceil(size / blockSize)),
      Float32Array.from({ length }, () => (std / 0.58) * (0.5 + next())),
    )
    return { quantType: 'nf4', shape: type.shape, blockSize, dtype: 'bfloat16', codes, absmax }
  }
  if (type.dtype === 'bf16') {
    return {
      type,
      data: repeated(
        new Uint16Array(size),
        Uint16Array.from({ length }, () => bf16Bits(value())),
      ),
    }
  }
  return { type, data: repeated(new Float32Array(size), Float32Array.from({ length }, value)) }
}

const filled = (type: TensorType, x: number): HostTensor => ({
  type,
  data:
    type.dtype === 'bf16'
      ? new Uint16Array(sizeOf(type.shape)).fill(bf16Bits(x))
      : new Float32Array(sizeOf(type.shape)).fill(x),
})

function ropeTable(type: TensorType, fn: (x: number) => number): HostTensor {
  const [rows, half] = type.shape
  const data = Float32Array.from({ length: rows * half }, (_, i) =>
    fn(Math.floor(i / half) * 10000 ** (-(i % half) / half)),
  )
  return { type, data }
}

/** The initial value of any tensor of the decoder programs. */
export function initialTensor(name: string, type: TensorType): HostTensor {
  if (name === 'cos') return ropeTable(type, Math.cos)
  if (name === 'sin') return ropeTable(type, Math.sin)
  if (/norm\d?$/.test(name)) return filled(type, 1)
  if (/^(gradient|m|v|cache)\./.test(name)) return filled(type, 0)
  const seed = [...name].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 0x01000193), 0x811c9dc5)
  return randomWeights(type, 0.02, seed)
}

/** Binds every constant and state of the programs that is not bound yet. */
export async function bindAll(
  session: Session,
  programs: readonly Program[],
  bound = new Set<string>(),
): Promise<void> {
  const shared = new Map<string, HostTensor>()
  for (const program of programs) {
    for (const input of program.inputs) {
      if (input.role === 'input' || bound.has(input.name)) continue
      const type = program.types[input.value]
      // Layers of one shape share their random numbers: only the time to make them is saved.
      const key = `${input.name.replace(/\d+\./, '')} ${type.shape.join()}`
      const tensor = shared.get(key) ?? initialTensor(input.name, type)
      shared.set(key, tensor)
      await session.bind(input.name, tensor)
      bound.add(input.name)
    }
  }
}
