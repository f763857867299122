import { OnnxType, type OnnxAttribute, type OnnxNode, type OnnxTensor, type OnnxTypeName } from './onnx-proto.js'

/** The domain of ONNX Runtime's own operators. */
export const MS = 'com.microsoft'

export interface NodeOptions {
  readonly domain?: string
  readonly outputs?: number
}

/** Collects ONNX nodes and initializers; names are made here, initializers with equal content are shared. */
export class OnnxBuilder {
  readonly nodes: OnnxNode[] = []
  readonly initializers: OnnxTensor[] = []
  private readonly shared = new Map<string, string>()
  /** What the outputs of `reshape` are reshapes of. */
  private readonly reshaped = new Map<string, string>()
  private counter = 0
  /** Prefix of the names of the nodes that follow: where in the model they come from. */
  scope = ''

  /** Adds a node and returns the names of its outputs. */
  nodeAll(
    opType: string,
    inputs: readonly string[],
    attributes: Record<string, OnnxAttribute> = {},
    o: NodeOptions = {},
  ): string[] {
    const id = this.counter++
    const name = `${this.scope ? `${this.scope}/` : ''}${opType}_${id}`
    const outputs = Array.from({ length: o.outputs ?? 1 }, (_, i) => (i === 0 ? `v${id}` : `v${id}.${i}`))
    this.nodes.push({ opType, domain: o.domain ?? '', name, inputs, outputs, attributes })
    return outputs
  }

  /** Adds a node with one output and returns its name. */
  node(opType: string, inputs: readonly string[], attributes: Record<string, OnnxAttribute> = {}, domain = ''): string {
    return this.nodeAll(opType, inputs, attributes, { domain })[0]
  }

  private initializer(type: OnnxTypeName, dims: readonly number[], raw: Uint8Array, key: string): string {
    const id = `${type}:${dims.join(',')}:${key}`
    const known = this.shared.get(id)
    if (known) return known
    const name = `c${this.initializers.length}`
    this.initializers.push({ name, type, dims, raw })
    this.shared.set(id, name)
    return name
  }

  /** An int64 vector, as shapes and axes are. */
  int64s(values: readonly number[]): string {
    const data = BigInt64Array.from(values, BigInt)
    return this.initializer('int64', [values.length], bytesOf(data), values.join(','))
  }

  int64(value: number): string {
    return this.initializer('int64', [], bytesOf(BigInt64Array.of(BigInt(value))), String(value))
  }

  int32(value: number): string {
    return this.initializer('int32', [], bytesOf(Int32Array.of(value)), String(value | 0))
  }

  uint32(value: number): string {
    return this.initializer('uint32', [], bytesOf(Uint32Array.of(value)), String(value >>> 0))
  }

  float(value: number): string {
    return this.initializer('float32', [], bytesOf(Float32Array.of(value)), String(Math.fround(value)))
  }

  /** A table that is built once per key. */
  table(type: OnnxTypeName, dims: readonly number[], key: string, make: () => ArrayBufferView): string {
    return this.initializer(
      type,
      dims,
      this.shared.has(`${type}:${dims.join(',')}:${key}`) ? EMPTY : bytesOf(make()),
      key,
    )
  }

  /** A chain of reshapes is its last one, and equal ones are shared: the runtime pays memory for every node. */
  reshape(x: string, dims: readonly number[]): string {
    const source = this.reshaped.get(x) ?? x
    const key = `reshape:${source}:${dims.join(',')}`
    const known = this.shared.get(key)
    if (known) return known
    const y = this.node('Reshape', [source, this.int64s(dims)])
    this.reshaped.set(y, source)
    this.shared.set(key, y)
    return y
  }

  transpose(x: string, perm: readonly number[]): string {
    return this.node('Transpose', [x], { perm })
  }

  cast(x: string, to: OnnxTypeName): string {
    return this.node('Cast', [x], { to: OnnxType[to] })
  }

  /** A float tensor of equal elements. */
  filled(dims: readonly number[], value: number): string {
    const element: OnnxTensor = { name: '', type: 'float32', dims: [1], raw: bytesOf(Float32Array.of(value)) }
    return this.node('ConstantOfShape', [this.int64s(dims)], { value: { tensor: element } })
  }

  /**
   * `alpha * op(a) op(b)` over the last two axes; plain MatMul where that is all it is. With `transBatchB` the first axis of
   * b is the one before its last, and those between are the batch: [n, ...batch, m] is read as [...batch, n, m], in place.
   */
  matmul(
    a: string,
    b: string,
    o: { transA?: boolean; transB?: boolean; transBatchB?: boolean; alpha?: number } = {},
  ): string {
    const { transA = false, transB = false, transBatchB = false, alpha = 1 } = o
    if (!transA && !transB && !transBatchB && alpha === 1) return this.node('MatMul', [a, b])
    const attributes = {
      transA: Number(transA),
      transB: Number(transB),
      ...(transBatchB ? { transBatchB: 1 } : {}),
      alpha: { float: alpha },
    }
    return this.node('FusedMatMul', [a, b], attributes, MS)
  }
}

const EMPTY = new Uint8Array()

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
