import type { DenseTensor, HostTensor } from '@mirastral/engine'
import { encodeModel } from '@mirastral/engine'
import { copyFile, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { internal, ModelError, reasonOf } from '../errors.js'
import { readJsonFile, writeJsonFile } from '../json-file.js'
import type { LoadedModel } from '../load.js'
import { writeFully } from '../write-fully.js'
import { decoderGraph } from './graph.js'
import { quantizeQ4 } from './q4.js'
import type { DataPiece, ExportDtype } from './weights.js'
import { WeightLayout } from './weights.js'

export interface OnnxExportOptions {
  /** `fp32` (default): onnx/model.onnx, exact; `q4`: onnx/model_q4.onnx, linear layers in 4 bits, about a seventh of the size. */
  dtype?: ExportDtype
}

const graphFiles = { fp32: 'model.onnx', q4: 'model_q4.onnx' } as const
/** What stands beside the weights and is copied as it is. */
const besideWeights =
  /^(?:generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json$|^(?:tokenizer\.model|merges\.txt|vocab\.txt|chat_template\.jinja)$/

function float32(tensor: HostTensor, key: string): Float32Array {
  const { type, data } = tensor as DenseTensor
  if (!('type' in tensor) || type.dtype !== 'f32' || !(data instanceof Float32Array)) {
    throw new ModelError(
      'option',
      `ONNX export: the model must be loaded in float32 without quantization, got another ${key}`,
    )
  }
  return data
}

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)

/** The bytes of one piece after the other; the two halves of a 4-bit weight follow each other, so it is made once. */
async function* pieceBytes(model: LoadedModel, pieces: readonly DataPiece[]): AsyncGenerator<Uint8Array> {
  let held: { key: string; scales: Float32Array } | null = null
  for (const { key, form } of pieces) {
    if (form === 'scales') {
      if (held?.key !== key) throw internal(`the scales of ${key} must follow its codes`)
      yield bytesOf(held.scales)
      continue
    }
    const values = float32(await model.weights.get(key), key)
    if (form === 'dense') {
      yield bytesOf(values)
      continue
    }
    const [rows, columns] = model.weights.types.get(key)?.shape ?? []
    const { codes, scales } = quantizeQ4(values, rows, columns)
    held = { key, scales }
    yield codes
  }
}

/** Writes the data files beside the graph, each under a temporary name until it is whole. */
async function writeData(folder: string, model: LoadedModel, pieces: readonly DataPiece[]): Promise<void> {
  const handles = new Map<string, Awaited<ReturnType<typeof open>>>()
  const temporary = (location: string): string => join(folder, `${location}.tmp`)
  try {
    let index = 0
    for await (const bytes of pieceBytes(model, pieces)) {
      const { raw } = pieces[index++].tensor
      if (raw instanceof Uint8Array) throw internal('an exported weight must lie in a data file')
      const handle = handles.get(raw.location) ?? (await open(temporary(raw.location), 'w'))
      handles.set(raw.location, handle)
      if (bytes.length !== raw.length) throw internal(`${raw.length} bytes were laid out, got ${bytes.length}`)
      await writeFully(handle, bytes, raw.offset)
    }
    for (const handle of handles.values()) await handle.sync()
  } finally {
    for (const handle of handles.values()) await handle.close()
  }
  for (const location of handles.keys()) await rename(temporary(location), join(folder, location))
}

async function existingExternalData(out: string): Promise<Record<string, unknown>> {
  const path = join(out, 'config.json')
  if (!(await readdir(out)).includes('config.json')) return {}
  const json = (await readJsonFile(path)) as Record<string, Record<string, unknown> | undefined>
  const known = json['transformers.js_config']?.use_external_data_format
  return typeof known === 'object' && known !== null ? (known as Record<string, unknown>) : {}
}

/**
 * Writes a model for @huggingface/transformers (`AutoModelForCausalLM.from_pretrained(out, { dtype })`), in Node and in
 * browsers: `onnx/model[_q4].onnx` with its data files, config.json and the tokenizer's files. The model must be loaded
 * with `quantization: 'none'` (an adapter is merged first). One weight is held at a time. Throws ModelError.
 */
export async function exportOnnx(model: LoadedModel, out: string, options: OnnxExportOptions = {}): Promise<void> {
  const dtype = options.dtype ?? 'fp32'
  const file = graphFiles[dtype]
  const folder = join(out, 'onnx')
  const layout = new WeightLayout(model.architecture.parameters(model.config), dtype, file)
  const graph = encodeModel(decoderGraph(model.config, layout))
  try {
    await mkdir(folder, { recursive: true })
    await rm(join(folder, file), { force: true })
    await writeData(folder, model, layout.pieces)
    await writeFile(join(folder, `${file}.tmp`), graph)
    await rename(join(folder, `${file}.tmp`), join(folder, file))
    for (const name of await readdir(model.folder)) {
      if (besideWeights.test(name)) await copyFile(join(model.folder, name), join(out, name))
    }
    const { quantization_config: _, torch_dtype: _v4, ...json } = model.config.json
    const external = { ...(await existingExternalData(out)), [file]: layout.dataFiles }
    await writeJsonFile(join(out, 'config.json'), {
      ...json,
      dtype: 'float32',
      'transformers.js_config': { use_external_data_format: external },
    })
  } catch (error) {
    if (error instanceof Error && 'exitCode' in error) throw error
    throw new ModelError('access', `${out}: the model cannot be written (${reasonOf(error)})`, [], { cause: error })
  }
}
