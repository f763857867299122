import { SafetensorsFolder } from '@mirastral/safetensors'
import type { FloatSource } from '@mirastral/quant'
import { QuantError, QuantPool, quantize4bit, quantizeNf4, quantizeNf4Parallel } from '@mirastral/quant'
import { expect, test } from 'vitest'
import { expectSame, expectSameTensor, fixture } from './fixtures.js'

/** More than two tasks, the last of them with a short block. */
const count = 2 ** 21 + 1001

function randomBits(): Uint16Array {
  const data = new Uint16Array(count)
  let state = 1
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    data[i] = (state & 0x80000000 ? 0x8000 : 0) | (0x3c00 + ((state >>> 8) % 0x300))
  }
  return data
}

const data = randomBits()
const sources: [string, FloatSource][] = [
  ['bfloat16', { dtype: 'bf16', data }],
  ['float16', { dtype: 'f16', data }],
  ['float32', Float32Array.from(data, (bits) => bits - 40000)],
]

test.each(sources)('worker threads give the same bytes as one thread for %s', async (_name, source) => {
  const parallel = await quantizeNf4Parallel(source, { threads: 3 })
  const single = quantizeNf4(source)
  expectSameTensor(parallel, single)
})

test('weights in shared memory are quantized without a copy and stay as they are', async () => {
  const shared = new Uint16Array(new SharedArrayBuffer(data.byteLength))
  shared.set(data)
  const parallel = await quantizeNf4Parallel({ dtype: 'bf16', data: shared }, { threads: 2 })
  expectSameTensor(parallel, quantizeNf4({ dtype: 'bf16', data }))
  expectSame(shared, data)
})

test('a pool quantizes stored tensors, which its threads read themselves', async () => {
  const reader = await SafetensorsFolder.open(fixture('tiny'))
  const pool = QuantPool.start({ threads: 2 })
  const name = 'model.layers.1.mlp.down_proj.weight'
  for (const quantType of ['nf4', 'fp4'] as const) {
    const bits = new Uint16Array((await reader.read(name)).buffer)
    const expected = quantize4bit({ dtype: 'bf16', data: bits }, quantType, { shape: [48, 101], blockSize: 128 })
    expectSameTensor(await pool.quantizeStored(reader, name, quantType, { blockSize: 128 }), expected)
  }
  await Promise.all([pool.close(), reader.close()])
})

test('a worker reports a weight that is not finite with the name of the tensor and the index of the element', async () => {
  const broken = data.slice()
  broken[2 ** 20 + 70] = 0x7f80
  const pool = QuantPool.start({ threads: 2 })
  const attempt = pool.quantize({ dtype: 'bf16', data: broken }, 'nf4', { name: 'model.w' })
  await expect(attempt).rejects.toThrow(
    new QuantError(
      'non-finite',
      `quantize model.w: weights must be finite, got Infinity at element ${2 ** 20 + 70}; the checkpoint is damaged`,
    ),
  )
  const again = await pool.quantize({ dtype: 'bf16', data: data.subarray(0, 100) }, 'nf4')
  expect(again.codes).toHaveLength(50)
  await pool.close()
  await expect(pool.quantize({ dtype: 'bf16', data }, 'nf4')).rejects.toThrow('QuantPool: a worker thread ended')
})
