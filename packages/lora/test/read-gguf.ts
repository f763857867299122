import { f16ToF32 } from '@mirastral/safetensors'

/** A tensor of a GGUF file; `ne` as GGML counts, fastest dimension first. */
export interface GgufTensor {
  readonly ne: readonly number[]
  readonly type: 'F32' | 'F16'
  readonly data: Float32Array
}

export interface GgufFile {
  readonly values: ReadonlyMap<string, string | number>
  readonly types: ReadonlyMap<string, 'string' | 'float32' | 'uint32'>
  readonly names: string[]
  tensor(name: string): GgufTensor
}

/** Reads what adapters need of GGUF version 3, written from the format's description and not from our writer. */
export function readGguf(file: Uint8Array): GgufFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  let at = 0
  const uint32 = (): number => view.getUint32((at += 4) - 4, true)
  const uint64 = (): number => Number(view.getBigUint64((at += 8) - 8, true))
  const text = (): string => {
    const length = uint64()
    return new TextDecoder('utf-8', { fatal: true }).decode(file.subarray(at, (at += length)))
  }
  if (new TextDecoder().decode(file.subarray(0, 4)) !== 'GGUF') throw new Error('no GGUF')
  at = 4
  if (uint32() !== 3) throw new Error('not version 3')
  const [tensorCount, valueCount] = [uint64(), uint64()]
  const values = new Map<string, string | number>()
  const types = new Map<string, 'string' | 'float32' | 'uint32'>()
  for (let i = 0; i < valueCount; i++) {
    const key = text()
    const type = uint32()
    if (type === 8) values.set(key, text())
    else if (type === 6) values.set(key, view.getFloat32((at += 4) - 4, true))
    else if (type === 4) values.set(key, uint32())
    else throw new Error(`value type ${type}`)
    types.set(key, type === 8 ? 'string' : type === 6 ? 'float32' : 'uint32')
  }
  const infos = Array.from({ length: tensorCount }, () => {
    const name = text()
    const ne = Array.from({ length: uint32() }, uint64)
    const type = uint32()
    return { name, ne, type, offset: uint64() }
  })
  const dataStart = Math.ceil(at / 32) * 32
  const tensors = new Map<string, GgufTensor>()
  for (const { name, ne, type, offset } of infos) {
    if (offset % 32 !== 0 || type > 1) throw new Error(`${name}: offset ${offset}, type ${type}`)
    const count = ne.reduce((a, b) => a * b, 1)
    const start = dataStart + offset
    const bytes = new Uint8Array(file.subarray(start, start + count * (type === 0 ? 4 : 2)))
    const data = type === 0 ? new Float32Array(bytes.buffer) : f16ToF32(new Uint16Array(bytes.buffer))
    if (data.length !== count) throw new Error(`${name}: truncated`)
    tensors.set(name, { ne, type: type === 0 ? 'F32' : 'F16', data })
  }
  return {
    values,
    types,
    names: [...tensors.keys()],
    tensor(name) {
      const found = tensors.get(name)
      if (found === undefined) throw new Error(`no tensor ${name}`)
      return found
    },
  }
}
