import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Dtype } from '@mirastral/safetensors'
import { SafetensorsFile, f32ToBf16, writeSafetensors } from '@mirastral/safetensors'
import { NF4_VALUES, fourBitEntries, quantizeNf4, readFourBitTensor, unnestAbsmax } from '@mirastral/quant'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectSameTensor } from './fixtures.js'

let path: string
beforeAll(async () => {
  path = join(await mkdtemp(join(tmpdir(), 'quant-')), 'file')
})
afterAll(() => rm(join(path, '..'), { recursive: true }))

interface Entry {
  name: string
  dtype: Dtype
  shape: readonly number[]
  data: Uint8Array | Uint16Array | Float32Array
}

const weights = Float32Array.from({ length: 700 }, (_, i) => Math.sin(i * i))
const tensor = quantizeNf4(weights, { shape: [7, 100] })
const state = 'w.quant_state.bitsandbytes__nf4'

function entries(doubleQuant: boolean): Map<string, Entry> {
  const list = fourBitEntries('w', tensor, { doubleQuant }) as unknown as Entry[]
  return new Map(list.map((entry) => [entry.name, entry]))
}

function at(map: Map<string, Entry>, name: string): Entry {
  const entry = map.get(name)
  if (!entry) throw new Error(`no entry ${name}`)
  return entry
}

async function readBack(map: Map<string, Entry>): Promise<Awaited<ReturnType<typeof readFourBitTensor>>> {
  await writeSafetensors(path, map.values())
  const file = await SafetensorsFile.open(path)
  try {
    return await readFourBitTensor(file, 'w')
  } finally {
    await file.close()
  }
}

const text = (content: string): Partial<Entry> => {
  const data = new TextEncoder().encode(content)
  return { data, shape: [data.length] }
}
const good = '{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [7, 100]}'

test('a weight reads back as it was written; the quant storage and a rounded codebook do not matter', async () => {
  const map = entries(false)
  const { data } = at(map, 'w')
  map.set('w', { name: 'w', dtype: 'BF16', shape: [175, 1], data: new Uint8Array(data.buffer) })
  map.set('w.quant_map', {
    name: 'w.quant_map',
    dtype: 'BF16',
    shape: [16],
    data: f32ToBf16(Float32Array.from(NF4_VALUES)),
  })
  expectSameTensor(await readBack(map), tensor)
})

test('a doubly quantized weight reads back with its scales restored', async () => {
  const map = entries(true)
  const codes = map.get('w.absmax')?.data as Uint8Array
  const absmax = map.get('w.nested_absmax')?.data as Float32Array
  const nestedMap = map.get('w.nested_quant_map')?.data as Float32Array
  const description = JSON.parse(Buffer.from(map.get(state)?.data as Uint8Array).toString()) as {
    nested_offset: number
  }
  const restored = unnestAbsmax({ codes, absmax, map: nestedMap, offset: description.nested_offset })
  expectSameTensor(await readBack(map), { ...tensor, absmax: restored })
})

test.each<[string, boolean, string, Partial<Entry> | undefined, string]>([
  ['no description', false, state, undefined, 'must be a weight with one quant_state.bitsandbytes__nf4 or'],
  ['no absmax', false, 'w.absmax', undefined, 'must have absmax beside it, got nothing'],
  ['no quant_map', false, 'w.quant_map', undefined, 'must have quant_map beside it, got nothing'],
  ['no nested_quant_map', true, 'w.nested_quant_map', undefined, 'must have nested_quant_map beside it'],
  [
    'no nested_absmax',
    true,
    'w.nested_absmax',
    undefined,
    'nested_absmax and the nested_offset of quant_state must come together',
  ],
  ['a description that is not JSON', false, state, text('nf4'), 'must be UTF-8 JSON'],
  ['a description that is a list', false, state, text('[]'), 'must be a JSON object'],
  ['a description that is endless', false, state, text(' '.repeat(5000)), 'must have at most 4096 bytes, got 5000'],
  [
    'a description of FP4 under the name of NF4',
    false,
    state,
    text(good.replace('nf4', 'fp4')),
    'must be about nf4, got fp4',
  ],
  ['an unknown quant type', false, state, text(good.replace('nf4', 'int4')), 'must have quant_type nf4 or fp4'],
  ['an unknown block size', false, state, text(good.replace('64', '63')), 'must have blocksize 32, 64'],
  [
    'an unknown dtype',
    false,
    state,
    text(good.replace('float32', 'float8')),
    'must have dtype float32, float16, bfloat16',
  ],
  ['a fractional shape', false, state, text(good.replace('100', '100.5')), 'must have a shape of whole numbers'],
  ['no shape', false, state, text(good.replace('[7, 100]', 'null')), 'must have a shape of whole numbers'],
  ['an enormous shape', false, state, text(good.replace('100', '9007199254740991')), 'at most 2^53 elements'],
  ['a larger shape', false, state, text(good.replace('100', '102')), 'must have 357 bytes of codes, got 350'],
  ['another block size', false, state, text(good.replace('64', '32')), 'must have 22 absmax, got 11'],
  [
    'another nested block size',
    true,
    state,
    text(good.replace('}', ', "nested_blocksize": 64, "nested_dtype": "float32", "nested_offset": 1}')),
    'must have nested_blocksize 256',
  ],
  [
    'a nested offset that is text',
    true,
    state,
    text(good.replace('}', ', "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": "1"}')),
    'must have a finite nested_offset',
  ],
  [
    'an infinite nested offset',
    true,
    state,
    text(good.replace('}', ', "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 1e99}')),
    'must have a finite nested_offset',
  ],
  [
    'nested scales in float32',
    true,
    'w.absmax',
    { dtype: 'F32', data: new Float32Array(11) },
    'a nested absmax must be U8',
  ],
  [
    'another codebook',
    false,
    'w.quant_map',
    { data: new Float32Array(16) },
    'quant_map must be the nf4 codebook, got 0 at 0 instead of -1',
  ],
  ['a codebook with NaN', false, 'w.quant_map', { data: new Float32Array(16).fill(NaN) }, 'got NaN at 0'],
])('%s is refused with the name of the weight', async (_what, doubleQuant, name, change, message) => {
  const map = entries(doubleQuant)
  const entry = at(map, name)
  if (change) map.set(name, { ...entry, ...change })
  else map.delete(name)
  await expect(readBack(map)).rejects.toMatchObject({
    code: 'MIRASTRAL_QUANT',
    kind: 'malformed',
    exitCode: 2,
    message: expect.stringMatching(new RegExp(`^${path}: w: .*${message.replace(/[[\]^]/g, '\\$&')}`)) as string,
  })
})

test('any JSON as a description is read or refused with a typed error', async () => {
  const fields = ['quant_type', 'blocksize', 'dtype', 'shape', 'nested_offset', 'nested_blocksize', 'nested_dtype']
  const known = fc.constantFrom<unknown>('nf4', 64, 'float32', [7, 100], 256, 0.5)
  const json = fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...fields), fc.oneof(known, fc.jsonValue())))
  await fc.assert(
    fc.asyncProperty(json, async (value) => {
      const map = entries(true)
      map.set(state, { ...at(map, state), ...text(JSON.stringify(value)) })
      const result: unknown = await readBack(map).catch((error: unknown) => error)
      if (result instanceof Error) expect(result).toMatchObject({ code: 'MIRASTRAL_QUANT' })
      else expect(result).toMatchObject({ shape: [7, 100], blockSize: 64 })
    }),
    { numRuns: 200 },
  )
})
