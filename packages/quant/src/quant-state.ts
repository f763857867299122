import type { QuantType } from './codebook.js'
import { BLOCK_SIZES } from './codebook.js'
import { NESTED_BLOCK_SIZE } from './double-quant.js'
import type { FloatDtype } from './tensor.js'

/** What bitsandbytes stores about a 4-bit weight as JSON in a U8 tensor. */
export interface QuantState {
  quantType: QuantType
  blockSize: number
  /** The dtype of the weight before it was quantized. */
  dtype: FloatDtype
  shape: readonly number[]
  /** Present with double quantization; a float32 number. */
  nestedOffset?: number | undefined
}

/** The key under which the description stands, after the weight's name and a dot. */
export function quantStateKey(quantType: QuantType): string {
  return `quant_state.bitsandbytes__${quantType}`
}

/** UTF-8 JSON, character for character as Python's `json.dumps` writes it in `QuantState.as_dict(packed=True)`. */
export function formatQuantState({ quantType, blockSize, dtype, shape, nestedOffset }: QuantState): Uint8Array {
  const fields = [
    `"quant_type": "${quantType}"`,
    `"blocksize": ${blockSize}`,
    `"dtype": "${dtype}"`,
    `"shape": [${shape.join(', ')}]`,
  ]
  if (nestedOffset !== undefined) {
    fields.push(
      `"nested_blocksize": ${NESTED_BLOCK_SIZE}`,
      '"nested_dtype": "float32"',
      `"nested_offset": ${pythonFloat(nestedOffset)}`,
    )
  }
  return new TextEncoder().encode(`{${fields.join(', ')}}`)
}

/** A finite double as Python's `repr`: the shortest digits, an exponent below 1e-4 and from 1e16 on. */
export function pythonFloat(value: number): string {
  const [digits, exponentText] = value.toExponential().split('e')
  const exponent = Number(exponentText)
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
  }
  // JavaScript switches to an exponent below 1e-6 and from 1e21 on, so within these bounds it agrees.
  const text = String(value)
  return Number.isInteger(value) ? `${Object.is(value, -0) ? '-0' : text}.0` : text
}

const dtypes: readonly string[] = ['float32', 'float16', 'bfloat16'] satisfies FloatDtype[]

/** Parses and checks the description; `fail` is given the rule that it breaks. */
export function parseQuantState(bytes: Uint8Array, fail: (rule: string) => never): QuantState {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return fail('must be UTF-8 JSON')
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return fail('must be a JSON object')
  const fields = json as Record<string, unknown>
  const { quant_type: quantType, blocksize: blockSize, dtype, shape, nested_offset: nestedOffset } = fields
  if (quantType !== 'nf4' && quantType !== 'fp4') return fail('must have quant_type nf4 or fp4')
  if (!BLOCK_SIZES.some((size) => size === blockSize)) return fail(`must have blocksize ${BLOCK_SIZES.join(', ')}`)
  if (typeof dtype !== 'string' || !dtypes.includes(dtype)) return fail(`must have dtype ${dtypes.join(', ')}`)
  if (!Array.isArray(shape) || !shape.every((size) => Number.isSafeInteger(size) && Number(size) >= 0)) {
    return fail('must have a shape of whole numbers')
  }
  const count = shape.reduce((product: number, size) => product * Number(size), 1)
  if (!Number.isSafeInteger(count)) return fail('must have a shape of at most 2^53 elements')
  const state: QuantState = {
    quantType,
    blockSize: Number(blockSize),
    dtype: dtype as FloatDtype,
    shape: shape as number[],
  }
  if (nestedOffset === undefined) return state
  if (fields.nested_blocksize !== NESTED_BLOCK_SIZE) return fail(`must have nested_blocksize ${NESTED_BLOCK_SIZE}`)
  if (fields.nested_dtype !== 'float32') return fail('must have nested_dtype float32')
  const offset = Math.fround(Number(nestedOffset))
  if (typeof nestedOffset !== 'number' || !Number.isFinite(offset)) return fail('must have a finite nested_offset')
  return { ...state, nestedOffset: offset }
}
