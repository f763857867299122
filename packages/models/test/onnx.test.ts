import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers'
import { exportOnnx, loadModel } from '@mirastral/models'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { expectAllClose, tolerances } from '../../engine/src/testing/index.js'
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

async function exported(name: string, dtype: 'fp32' | 'q4'): Promise<ExportedModel> {
  const model = await loadModel(join(fixtures, name), { quantization: 'none' })
  await exportOnnx(model, root, { dtype })
  await model.weights.close()
  return (await AutoModelForCausalLM.from_pretrained(root, { dtype, device: 'cpu' })) as unknown as ExportedModel
}

describe('an exported model, run by @huggingface/transformers', () => {
  it.each(cases)('of %s generates what Transformers generates', async (name) => {
    const golden = await readGolden(name)
    const model = await exported(name, 'fp32')
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
    const model = await exported(name, 'fp32')
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

describe('the 4-bit export', () => {
  it.each(['qwen3', 'qwen2'])('of %s is smaller, runs, and stays close to the exact model', async (name) => {
    const golden = await readGolden(name)
    const dims = golden.shape('packed.ids')
    const ids = int64(golden.i32('packed.ids'), dims)
    const inputs = { input_ids: ids, attention_mask: int64(golden.i32('packed.ids').fill(1), dims) }
    const run = async (dtype: 'fp32' | 'q4'): Promise<Float32Array> => {
      const model = await exported(name, dtype)
      const { logits } = await model(inputs)
      await model.dispose()
      return logits.data as Float32Array
    }
    const [exact, rounded] = [await run('fp32'), await run('q4')]
    const norm = (data: Float32Array) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0))
    const error = norm(exact.map((x, i) => x - rounded[i])) / norm(exact)
    expect(error).toBeGreaterThan(0.001)
    expect(error).toBeLessThan(0.25)
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
