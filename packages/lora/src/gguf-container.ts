/** The element types that are written here, with GGML's number for each. */
const tensorTypes = { F32: 0, F16: 1 } as const

const ALIGNMENT = 32
const VERSION = 3
const VALUE_FLOAT32 = 6
const VALUE_STRING = 8

interface Pending {
  readonly name: string
  readonly type: keyof typeof tensorTypes
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** Little-endian bytes, appended piece by piece. */
class Bytes {
  private readonly pieces: Uint8Array[] = []
  length = 0

  append(piece: Uint8Array): void {
    this.pieces.push(piece)
    this.length += piece.length
  }

  uint32(value: number): void {
    const piece = new Uint8Array(4)
    new DataView(piece.buffer).setUint32(0, value, true)
    this.append(piece)
  }

  uint64(value: number): void {
    const piece = new Uint8Array(8)
    new DataView(piece.buffer).setBigUint64(0, BigInt(value), true)
    this.append(piece)
  }

  float32(value: number): void {
    const piece = new Uint8Array(4)
    new DataView(piece.buffer).setFloat32(0, value, true)
    this.append(piece)
  }

  text(value: string): void {
    const piece = new TextEncoder().encode(value)
    this.uint64(piece.length)
    this.append(piece)
  }

  pad(): void {
    this.append(new Uint8Array((ALIGNMENT - (this.length % ALIGNMENT)) % ALIGNMENT))
  }

  joined(): Uint8Array {
    const result = new Uint8Array(this.length)
    let at = 0
    for (const piece of this.pieces) {
      result.set(piece, at)
      at += piece.length
    }
    return result
  }
}

/** Builds a GGUF file, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), in memory. */
export class GgufWriter {
  private readonly values = new Bytes()
  private valueCount = 0
  private readonly tensors: Pending[] = []

  addString(key: string, value: string): void {
    this.addKey(key, VALUE_STRING)
    this.values.text(value)
  }

  addFloat32(key: string, value: number): void {
    this.addKey(key, VALUE_FLOAT32)
    this.values.float32(value)
  }

  /** Adds a row-major tensor; `shape` as in NumPy, last dimension fastest (the file holds it the other way round). */
  addTensor(
    name: string,
    type: keyof typeof tensorTypes,
    shape: readonly number[],
    data: Float32Array | Uint16Array,
  ): void {
    this.tensors.push({ name, type, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) })
  }

  bytes(): Uint8Array {
    const file = new Bytes()
    file.append(new TextEncoder().encode('GGUF'))
    file.uint32(VERSION)
    file.uint64(this.tensors.length)
    file.uint64(this.valueCount)
    file.append(this.values.joined())
    let offset = 0
    for (const { name, type, shape, data } of this.tensors) {
      file.text(name)
      file.uint32(shape.length)
      for (const size of [...shape].reverse()) file.uint64(size)
      file.uint32(tensorTypes[type])
      file.uint64(offset)
      offset += Math.ceil(data.length / ALIGNMENT) * ALIGNMENT
    }
    file.pad()
    for (const { data } of this.tensors) {
      file.append(data)
      file.pad()
    }
    return file.joined()
  }

  private addKey(key: string, type: number): void {
    this.values.text(key)
    this.values.uint32(type)
    this.valueCount += 1
  }
}
