import type { SafetensorsReader, TensorEntry, TensorInfo } from '@mirastral/safetensors'
import { readFloat32 } from '@mirastral/safetensors'
import type { QuantType } from './codebook.js'
import { codebook } from './codebook.js'
import type { NestedAbsmax } from './double-quant.js'
import { NESTED_BLOCK_SIZE, nestAbsmax, unnestAbsmax } from './double-quant.js'
import { QuantError } from './errors.js'
import type { QuantState } from './quant-state.js'
import { formatQuantState, parseQuantState, quantStateKey } from './quant-state.js'
import type { FourBitTensor } from './tensor.js'
import { checkFourBitTensor, countElements } from './tensor.js'

export interface FourBitEntryOptions {
  /** Store absmax in 8 bits (bitsandbytes' `compress_statistics`); default false. */
  doubleQuant?: boolean
  /** See `nestAbsmax`. */
  torchThreads?: number
}

/**
 * The entries of one 4-bit weight in the layout of bitsandbytes' `Linear4bit` (functional.py, `QuantState.as_dict`):
 * `name` U8 [bytes, 1], `name.absmax`, `name.quant_map`, with double quantization `name.nested_absmax` and
 * `name.nested_quant_map`, and `name.quant_state.bitsandbytes__nf4`. `name` ends in `.weight`.
 */
export function fourBitEntries(name: string, tensor: FourBitTensor, options: FourBitEntryOptions = {}): TensorEntry[] {
  checkFourBitTensor(name, tensor)
  const nested = options.doubleQuant ? nestAbsmax(tensor.absmax, { ...options, name }) : undefined
  return [
    { name, dtype: 'U8', shape: [tensor.codes.length, 1], data: tensor.codes },
    ...fourBitStateEntries(name, tensor, nested ?? tensor.absmax),
  ]
}

/** The entries beside the codes: the scales, plain or nested, the codebook and the description. */
export function fourBitStateEntries(
  name: string,
  { quantType, blockSize, dtype, shape }: Omit<FourBitTensor, 'codes' | 'absmax'>,
  absmax: Float32Array | NestedAbsmax,
): TensorEntry[] {
  const nested = absmax instanceof Float32Array ? undefined : absmax
  const state = formatQuantState({ quantType, blockSize, dtype, shape, nestedOffset: nested?.offset })
  const entry = (key: string, data: Uint8Array | Float32Array): TensorEntry => ({
    name: `${name}.${key}`,
    dtype: data instanceof Uint8Array ? 'U8' : 'F32',
    shape: [data.length],
    data,
  })
  return [
    entry('absmax', absmax instanceof Float32Array ? absmax : absmax.codes),
    entry('quant_map', codebook(quantType).values),
    ...(nested ? [entry('nested_absmax', nested.absmax), entry('nested_quant_map', nested.map)] : []),
    entry(quantStateKey(quantType), state),
  ]
}

/** The weights that a checkpoint holds in bitsandbytes' 4-bit layout, by name (`....weight`). */
export function fourBitWeights(reader: Pick<SafetensorsReader, 'tensors'>): Map<string, QuantType> {
  const weights = new Map<string, QuantType>()
  for (const name of reader.tensors.keys()) {
    for (const quantType of ['nf4', 'fp4'] as const) {
      const suffix = `.${quantStateKey(quantType)}`
      if (name.endsWith(suffix)) weights.set(name.slice(0, -suffix.length), quantType)
    }
  }
  return weights
}

/**
 * Reads one 4-bit weight of a bitsandbytes checkpoint, plain or doubly quantized; a nested absmax is restored to
 * float32 as bitsandbytes does. All sizes are checked before anything large is read.
 * Throws QuantError `malformed` where the layout is broken, and SafetensorsError.
 */
export async function readFourBitTensor(reader: SafetensorsReader, name: string): Promise<FourBitTensor> {
  const state = await readFourBitState(reader, name)
  const blocks = checkSizes(reader, name, state)
  await checkCodebook(reader, name, state.quantType)
  const [codes, absmax] = await Promise.all([reader.read(name), readAbsmax(reader, name, state, blocks)])
  const { quantType, shape, blockSize, dtype } = state
  return { quantType, shape, blockSize, dtype, codes, absmax }
}

function fail(reader: Pick<SafetensorsReader, 'path'>, name: string, rule: string): never {
  throw new QuantError('malformed', `${reader.path}: ${name}: ${rule}; the 4-bit checkpoint is damaged`)
}

function infoOf(reader: SafetensorsReader, weight: string, key: string): TensorInfo {
  return reader.tensors.get(`${weight}.${key}`) ?? fail(reader, weight, `must have ${key} beside it, got nothing`)
}

/** The description of a 4-bit weight has about 150 bytes; what is longer than this is not one. */
const maxStateBytes = 4096

/** What a 4-bit weight says of itself, without its codes. Throws QuantError `malformed`, and SafetensorsError. */
export async function readFourBitState(reader: SafetensorsReader, name: string): Promise<QuantState> {
  const types = (['nf4', 'fp4'] as const).filter((type) => reader.tensors.has(`${name}.${quantStateKey(type)}`))
  if (types.length !== 1 || !reader.tensors.has(name)) {
    fail(reader, name, `must be a weight with one ${quantStateKey('nf4')} or ${quantStateKey('fp4')} beside it`)
  }
  const key = quantStateKey(types[0])
  const { byteLength } = infoOf(reader, name, key)
  if (byteLength > maxStateBytes)
    fail(reader, name, `${key} must have at most ${maxStateBytes} bytes, got ${byteLength}`)
  const state = parseQuantState(await reader.read(`${name}.${key}`), (rule) => fail(reader, name, `${key} ${rule}`))
  if (state.quantType !== types[0]) fail(reader, name, `${key} must be about ${types[0]}, got ${state.quantType}`)
  return state
}

/** Compares all sizes with the shape; returns the number of blocks. */
function checkSizes(reader: SafetensorsReader, name: string, { shape, blockSize, nestedOffset }: QuantState): number {
  const count = countElements(name, shape)
  const blocks = Math.ceil(count / blockSize)
  const expect = (what: string, got: number | undefined, wanted: number): void => {
    if (got !== wanted)
      fail(reader, name, `shape [${shape.join(',')}] must have ${wanted} ${what}, got ${got ?? 'none'}`)
  }
  const elements = (key: string): number => infoOf(reader, name, key).shape.reduce((product, size) => product * size, 1)
  expect('bytes of codes', reader.tensors.get(name)?.byteLength, Math.ceil(count / 2))
  expect('absmax', elements('absmax'), blocks)
  expect('entries of quant_map', elements('quant_map'), 16)
  const isNested = reader.tensors.has(`${name}.nested_absmax`)
  if (isNested !== (nestedOffset !== undefined)) {
    fail(reader, name, 'nested_absmax and the nested_offset of quant_state must come together')
  }
  if (isNested) {
    if (infoOf(reader, name, 'absmax').dtype !== 'U8') fail(reader, name, 'a nested absmax must be U8')
    expect('nested_absmax', elements('nested_absmax'), Math.ceil(blocks / NESTED_BLOCK_SIZE))
    expect('entries of nested_quant_map', elements('nested_quant_map'), 256)
  }
  return blocks
}

/**
 * Every implementation decodes with its built-in values and only carries `quant_map` along, so a rounded copy (some
 * checkpoints were cast to bfloat16 as a whole) means the same; another codebook does not.
 */
async function checkCodebook(reader: SafetensorsReader, name: string, quantType: QuantType): Promise<void> {
  const map = await readFloat32(reader, `${name}.quant_map`)
  const { values } = codebook(quantType)
  const index = map.findIndex((value, i) => !(Math.abs(value - values[i]) <= 2 ** -8))
  if (index >= 0) {
    fail(
      reader,
      name,
      `quant_map must be the ${quantType} codebook, got ${map[index]} at ${index} instead of ${values[index]}`,
    )
  }
}

async function readAbsmax(
  reader: SafetensorsReader,
  name: string,
  { nestedOffset }: QuantState,
  blocks: number,
): Promise<Float32Array> {
  if (nestedOffset === undefined) return readFloat32(reader, `${name}.absmax`)
  const [codes, absmax, map] = await Promise.all([
    reader.read(`${name}.absmax`),
    readFloat32(reader, `${name}.nested_absmax`),
    readFloat32(reader, `${name}.nested_quant_map`),
  ])
  return unnestAbsmax({ codes, absmax, map, offset: nestedOffset }, new Float32Array(blocks))
}
