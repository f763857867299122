/**
 * Writes the few messages of onnx.proto3 that a lowered program needs, in the protobuf wire format.
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
 */

/** TensorProto.DataType. */
export const OnnxType = {
  float32: 1,
  uint8: 2,
  uint16: 4,
  int32: 6,
  int64: 7,
  bool: 9,
  uint32: 12,
} as const
export type OnnxTypeName = keyof typeof OnnxType

/** Where a tensor's bytes lie in a file beside the model. */
export interface OnnxExternalData {
  readonly location: string
  readonly offset: number
  readonly length: number
}

export interface OnnxTensor {
  readonly name: string
  readonly type: OnnxTypeName
  readonly dims: readonly number[]
  /** Little-endian elements. */
  readonly raw: Uint8Array | OnnxExternalData
}

export type OnnxAttribute =
  number | string | readonly number[] | { readonly float: number } | { readonly tensor: OnnxTensor }

export interface OnnxNode {
  readonly opType: string
  readonly domain: string
  readonly name: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** Integers as numbers, floats wrapped in `{ float }`. */
  readonly attributes: Readonly<Record<string, OnnxAttribute>>
}

export interface OnnxValueInfo {
  readonly name: string
  readonly type: OnnxTypeName
  /** A string is a symbolic dimension. */
  readonly dims: readonly (number | string)[]
}

export interface OnnxModel {
  readonly name: string
  readonly opsets: Readonly<Record<string, number>>
  readonly nodes: readonly OnnxNode[]
  readonly initializers: readonly OnnxTensor[]
  readonly inputs: readonly OnnxValueInfo[]
  readonly outputs: readonly OnnxValueInfo[]
}

const VARINT = 0
const BYTES = 2
const FIXED32 = 5

class ProtoWriter {
  private buffer = new Uint8Array(64)
  private length = 0

  private reserve(bytes: number): void {
    if (this.length + bytes <= this.buffer.length) return
    const grown = new Uint8Array(Math.max(this.buffer.length * 2, this.length + bytes))
    grown.set(this.buffer.subarray(0, this.length))
    this.buffer = grown
  }

  private varint(value: number): void {
    this.reserve(10)
    let rest = BigInt.asUintN(64, BigInt(value))
    while (rest > 0x7fn) {
      this.buffer[this.length++] = Number(rest & 0x7fn) | 0x80
      rest >>= 7n
    }
    this.buffer[this.length++] = Number(rest)
  }

  private tag(field: number, wire: number): void {
    this.varint(field * 8 + wire)
  }

  int(field: number, value: number): this {
    this.tag(field, VARINT)
    this.varint(value)
    return this
  }

  float(field: number, value: number): this {
    this.tag(field, FIXED32)
    this.reserve(4)
    new DataView(this.buffer.buffer).setFloat32(this.length, value, true)
    this.length += 4
    return this
  }

  bytes(field: number, value: Uint8Array): this {
    this.tag(field, BYTES)
    this.varint(value.length)
    this.reserve(value.length)
    this.buffer.set(value, this.length)
    this.length += value.length
    return this
  }

  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value))
  }

  message(field: number, write: (inner: ProtoWriter) => void): this {
    const inner = new ProtoWriter()
    write(inner)
    return this.bytes(field, inner.finish())
  }

  finish(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }
}

/** TensorProto.DataLocation. */
const EXTERNAL = 1

function writeTensor(w: ProtoWriter, tensor: OnnxTensor): void {
  for (const dim of tensor.dims) w.int(1, dim)
  w.int(2, OnnxType[tensor.type]).string(8, tensor.name)
  if (tensor.raw instanceof Uint8Array) {
    w.bytes(9, tensor.raw)
    return
  }
  for (const [key, value] of Object.entries(tensor.raw)) w.message(13, (e) => e.string(1, key).string(2, String(value)))
  w.int(14, EXTERNAL)
}

/** AttributeProto.AttributeType. */
const AttributeType = { float: 1, int: 2, string: 3, tensor: 4, ints: 7 } as const

function writeAttribute(w: ProtoWriter, name: string, value: OnnxAttribute): void {
  w.string(1, name)
  if (typeof value === 'number') w.int(3, value).int(20, AttributeType.int)
  else if (typeof value === 'string') w.string(4, value).int(20, AttributeType.string)
  else if ('float' in value) w.float(2, value.float).int(20, AttributeType.float)
  else if ('tensor' in value) w.message(5, (t) => writeTensor(t, value.tensor)).int(20, AttributeType.tensor)
  else {
    for (const item of value) w.int(8, item)
    w.int(20, AttributeType.ints)
  }
}

function writeNode(w: ProtoWriter, node: OnnxNode): void {
  for (const input of node.inputs) w.string(1, input)
  for (const output of node.outputs) w.string(2, output)
  w.string(3, node.name).string(4, node.opType)
  for (const [name, value] of Object.entries(node.attributes)) w.message(5, (a) => writeAttribute(a, name, value))
  if (node.domain) w.string(7, node.domain)
}

function writeValueInfo(w: ProtoWriter, info: OnnxValueInfo): void {
  w.string(1, info.name).message(2, (type) =>
    type.message(1, (tensor) =>
      tensor.int(1, OnnxType[info.type]).message(2, (shape) => {
        for (const dim of info.dims) {
          shape.message(1, (d) => (typeof dim === 'number' ? d.int(1, dim) : d.string(2, dim)))
        }
      }),
    ),
  )
}

/** IR version 10 is the one of ONNX 1.16 to 1.17, and read by every ONNX Runtime since 1.18. */
const IR_VERSION = 10

/** The bytes of an `.onnx` file. */
export function encodeModel(model: OnnxModel): Uint8Array {
  const w = new ProtoWriter()
  w.int(1, IR_VERSION).string(2, 'mirastral')
  w.message(7, (graph) => {
    for (const node of model.nodes) graph.message(1, (n) => writeNode(n, node))
    graph.string(2, model.name)
    for (const tensor of model.initializers) graph.message(5, (t) => writeTensor(t, tensor))
    for (const input of model.inputs) graph.message(11, (v) => writeValueInfo(v, input))
    for (const output of model.outputs) graph.message(12, (v) => writeValueInfo(v, output))
  })
  for (const [domain, version] of Object.entries(model.opsets)) {
    w.message(8, (opset) => opset.string(1, domain).int(2, version))
  }
  return w.finish().slice()
}
