import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { SafetensorsFile } from '@mirastral/safetensors'

export const fixtures = fileURLToPath(new URL('../../../fixtures/models/', import.meta.url))

/** The architectures' golden cases, one folder each. */
export const cases = ['llama-tied', 'llama-rope3-biases', 'mistral-window', 'mistral-bf16', 'qwen2', 'qwen3'] as const

/** What Transformers computed: tensors by name. */
export interface Golden {
  names(prefix: string): string[]
  shape(name: string): readonly number[]
  f32(name: string): Float32Array
  i32(name: string): Int32Array
}

export async function readGolden(name: string): Promise<Golden> {
  const file = await SafetensorsFile.open(join(fixtures, name, 'golden.safetensors'))
  const data = new Map<string, ArrayBuffer>()
  for (const tensor of file.tensors.keys()) data.set(tensor, (await file.read(tensor)).buffer)
  await file.close()
  const bytes = (tensor: string, dtype: string): ArrayBuffer => {
    const found = data.get(tensor)
    if (!found || file.tensors.get(tensor)?.dtype !== dtype) throw new Error(`no golden ${dtype} ${tensor}`)
    return found
  }
  return {
    names: (prefix) => [...data.keys()].filter((key) => key.startsWith(prefix)),
    shape: (tensor) => file.tensors.get(tensor)?.shape ?? [],
    f32: (tensor) => new Float32Array(bytes(tensor, 'F32')),
    i32: (tensor) => new Int32Array(bytes(tensor, 'I32')),
  }
}
