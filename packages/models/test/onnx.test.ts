import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers'
import type { HostTensor } from '@mirastral/engine'
import { f32 } from '@mirastral/engine'
import type { LoadedModel } from '@mirastral/models'
import { checkpointKey, exportOnnx, inputEmbedding, loadModel } from '@mirastral/models'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { expectAllClose, tolerances } from '../../engine/src/testing/index.js'
import { Q4_BLOCK, q4Sizes, quantizeQ4 } from '../src/onnx/q4.js'
import { cases, fixtures, readGolden } from './golden.js'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mirastral-onnx-'))
  env.allowRemoteModels = false
})
afterEach(() => rm(root, { recursive: true }))

/** The parts of a model of @huggingface/transformers that are used here. */
interface ExportedModel {
  (inputs: Record<string, Tensor>): Promise<{ logits: Tensor }>
  generate(options: Record<string, unknown>): Promise<Tensor>
  dispose(): Promise<unknown>
}

const int64 = (values: Int32Array, dims: readonly number[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), [...dims])

async function exported(name: string): Promise<ExportedModel> {
  const model = await loadModel(join(fixtures, name), { quantization: 'none' })
  await exportOnnx(model, root)
  await model.weights.close()
  return (await AutoModelForCausalLM.from_pretrained(root, {
    dtype: 'fp32',
    device: 'cpu',
  })) as unknown as ExportedModel
}

describe('an exported model, run by @huggingface/transformers', () => {
  it.each(cases)('of %s generates what Transformers generates', async (name) => {
    const golden = await readGolden(name)
    const model = await exported(name)
    const prompt = golden.i32('generate.prompt')
    const expected = golden.i32('generate.tokens')
    const ids = int64(prompt, [1, prompt.length])
    const options = { do_sample: false, max_new_tokens: expected.length, eos_token_id: 999_999 }
    const output = await model.generate({
      input_ids: ids,
      attention_mask: int64(
        prompt.map(() => 1),
        ids.dims,
      ),
      ...options,
    })
    await model.dispose()
    expect([...(output.data as BigInt64Array)].map(Number)).toEqual([...prompt, ...expected])
  })

  it.each(cases)('of %s gives the logits of Transformers, left-padded rows too', async (name) => {
    const golden = await readGolden(name)
    const model = await exported(name)
    const dims = golden.shape('left.ids')
    const segments = golden.i32('left.segments')
    const { logits } = await model({
      input_ids: int64(golden.i32('left.ids'), dims),
      attention_mask: int64(segments, dims),
    })
    await model.dispose()
    const width = logits.dims[2]
    const real = (data: Float32Array) => data.filter((_, i) => segments[Math.floor(i / width)] !== 0)
    expectAllClose('logits', real(logits.data as Float32Array), real(golden.f32('left.logits')), tolerances.f32Model)
  })
})

/** The values of the 4-bit form of a matrix. */
function rounded(values: Float32Array, [rows, columns]: readonly number[]): Float32Array {
  const { codes, scales } = quantizeQ4(values, rows, columns)
  const { blocks } = q4Sizes(rows, columns)
  return values.map((_, i) => {
    const at = Math.floor(i / columns) * blocks * Q4_BLOCK + (i % columns)
    const code = at % 2 === 0 ? codes[at >> 1] & 15 : codes[at >> 1] >> 4
    return (code - 8) * scales[Math.floor(at / Q4_BLOCK)]
  })
}

/** The model that a 4-bit export means: linear layers and the head rounded, the embedding table not. */
function roundedModel(model: LoadedModel): LoadedModel {
  const { config, weights, architecture } = model
  const source = (key: string) => (weights.types.has(key) ? key : inputEmbedding)
  const get = async (key: string): Promise<HostTensor> => {
    const tensor = await weights.get(source(key))
    if (!('data' in tensor) || !(key === 'lm_head.weight' || key.includes('_proj.weight'))) return tensor
    return { type: tensor.type, data: rounded(tensor.data as Float32Array, tensor.type.shape) }
  }
  const untied = { ...config, tieWordEmbeddings: false }
  const types = new Map(
    architecture.parameters(untied).map((spec) => [checkpointKey(spec), f32(...spec.shape)] as const),
  )
  return { ...model, config: untied, weights: { ...weights, types, get } }
}

describe('the 4-bit export', () => {
  it.each(['qwen3', 'qwen2'])('of %s computes with the rounded weights, and is smaller', async (name) => {
    const golden = await readGolden(name)
    const dims = golden.shape('packed.ids')
    const ids = golden.i32('packed.ids')
    const inputs = {
      input_ids: int64(ids, dims),
      attention_mask: int64(
        ids.map(() => 1),
        dims,
      ),
    }
    const model = await loadModel(join(fixtures, name), { quantization: 'none' })
    const run = async (dtype: 'fp32' | 'q4'): Promise<Float32Array> => {
      const session = (await AutoModelForCausalLM.from_pretrained(root, { dtype, device: 'cpu' })) as unknown
      const { logits } = await (session as ExportedModel)(inputs)
      await (session as ExportedModel).dispose()
      return logits.data as Float32Array
    }
    await exportOnnx(model, root, { dtype: 'q4' })
    await exportOnnx(roundedModel(model), root)
    await model.weights.close()
    expectAllClose('logits', await run('q4'), await run('fp32'), tolerances.f32Model)
    const sizeOf = async (file: string) => (await stat(join(root, 'onnx', file))).size
    expect(await sizeOf('model_q4.onnx_data')).toBeLessThan(await sizeOf('model.onnx_data'))
    const config = JSON.parse(await readFile(join(root, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config['transformers.js_config']).toEqual({
      use_external_data_format: { 'model.onnx': 1, 'model_q4.onnx': 1 },
    })
  })
})

describe('exportOnnx', () => {
  it('takes the tokenizer along and leaves no temporary file', async () => {
    const source = join(root, 'source')
    const out = join(root, 'out')
    await cp(join(fixtures, 'llama-tied'), source, { recursive: true })
    await writeFile(join(source, 'tokenizer.json'), '{}')
    const model = await loadModel(source, { quantization: 'none' })
    await exportOnnx(model, out)
    await model.weights.close()
    expect((await readdir(out)).sort()).toEqual(['config.json', 'onnx', 'tokenizer.json'])
    expect((await readdir(join(out, 'onnx'))).sort()).toEqual(['model.onnx', 'model.onnx_data'])
  })

  it('refuses a model that was loaded in 4 bits', async () => {
    const model = await loadModel(join(fixtures, 'qwen2'))
    await expect(exportOnnx(model, root)).rejects.toThrow(
      'ONNX export: the model must be loaded in float32 without quantization',
    )
    await model.weights.close()
  })
})
