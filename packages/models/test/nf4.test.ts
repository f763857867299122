import { dequantizeNf4 } from '@mirastral/quant'
import type { HostTensor } from '@mirastral/engine'
import { f32, referenceBackend } from '@mirastral/engine'
import { describe, expect, it } from 'vitest'
import { expectAllClose, tolerances } from '../../engine/src/testing/index.js'
import type { Golden } from './golden.js'
import { cases, readGolden } from './golden.js'
import type { Opened } from './harness.js'
import { backends, logitsOf, open } from './harness.js'

/** The same model with its 4-bit weights expanded to float32. */
function expanded({ config, weights }: Opened): Opened {
  const get = async (key: string): Promise<HostTensor> => {
    const tensor = await weights.get(key)
    return 'codes' in tensor ? { type: f32(...tensor.shape), data: dequantizeNf4(tensor) } : tensor
  }
  const types = new Map([...weights.types].map(([key, { shape }]) => [key, f32(...shape)]))
  return { config, weights: { types, get, close: () => weights.close() } }
}

/** Rows of tokens that are not padding. */
function realRows(golden: Golden, part: string, logits: Float32Array): Float32Array {
  const segments = golden.i32(`${part}.segments`)
  const width = logits.length / segments.length
  return logits.filter((_, i) => segments[Math.floor(i / width)] !== 0)
}

describe.each(backends)('4-bit weights on the $name backend', (backend) => {
  it.each(['batch', 'left'])('of a bitsandbytes checkpoint give the logits of bitsandbytes (%s)', async (part) => {
    const golden = await readGolden('mistral-bnb-nf4')
    const model = await open('mistral-bnb-nf4', {})
    const logits = await logitsOf(backend, model, golden, part)
    await model.weights.close()
    const expected = realRows(golden, part, golden.f32(`${part}.logits`))
    expectAllClose('logits', realRows(golden, part, logits), expected, tolerances.f32Model)
  })

  it.each(cases)('of %s, quantized while loading, act as their dequantized values', async (name) => {
    const golden = await readGolden(name)
    for (const blockSize of [32, 64]) {
      const model = await open(name, { blockSize })
      const logits = await logitsOf(backend, model, golden, 'packed')
      const dense = await logitsOf(backend, expanded(model), golden, 'packed')
      await model.weights.close()
      expectAllClose('logits', logits, dense, tolerances.f32Model)
    }
  })
})

describe('a model in bfloat16', () => {
  it('has the logits of its checkpoint, whose weights were bfloat16 already', async () => {
    const golden = await readGolden('mistral-bf16')
    const model = await open('mistral-bf16', { quantization: 'none', dtype: 'bfloat16' })
    const logits = await logitsOf(referenceBackend(), model, golden, 'packed')
    await model.weights.close()
    expectAllClose('logits', logits, golden.f32('packed.logits'), tolerances.f32Model)
  })
})

describe('weights', () => {
  it('of a bitsandbytes checkpoint are its own, in its block size, or expanded when asked', async () => {
    const key = 'model.layers.0.mlp.up_proj.weight'
    const packed = await open('mistral-bnb-nf4', { blockSize: 128 })
    expect(packed.weights.types.get(key)).toEqual({ dtype: 'nf4', shape: [64, 64], blockSize: 64 })
    const tensor = await packed.weights.get(key)
    await packed.weights.close()
    const dense = await open('mistral-bnb-nf4', { quantization: 'none' })
    expect(dense.weights.types.get(key)).toEqual(f32(64, 64))
    const plain = await dense.weights.get(key)
    await dense.weights.close()
    expect('codes' in tensor && 'data' in plain && plain.data).toEqual('codes' in tensor && dequantizeNf4(tensor))
  })

  it('can be had in the 16-bit dtypes that a GPU computes with', async () => {
    const key = 'model.norm.weight'
    const full = await open('mistral-bf16', { quantization: 'none' })
    const half = await open('mistral-bf16', { quantization: 'none', dtype: 'bfloat16' })
    const [wide, narrow] = [await full.weights.get(key), await half.weights.get(key)]
    expect(half.weights.types.get(key)).toEqual({ dtype: 'bf16', shape: [32] })
    const values = 'data' in wide ? new Uint32Array(wide.data.slice().buffer) : new Uint32Array()
    expect('data' in narrow && [...narrow.data]).toEqual([...values].map((bits) => bits >>> 16))
    await full.weights.close()
    await half.weights.close()
  })
})
