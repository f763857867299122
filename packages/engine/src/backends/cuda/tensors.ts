import { checkFourBitTensor, type Nf4Tensor } from '@mirastral/quant'
import { EngineError } from '../../errors.js'
import { byteSize, formatType, isFloat, sameShape, sizeOf, type DType, type TensorType } from '../../ir/tensor-type.js'
import { isNf4, type DenseTensor, type HostTensor } from '../backend.js'
import { callOf, type CallContext } from './calls.js'
import { input, output, i32, type Launch, type Ref } from './command.js'
import type { KernelSource } from './compiler.js'
import { bytesFor, tensorOf } from './host-data.js'
import { dequantizeLaunch } from './kernels/quant.js'
import { BLOCK, blocksFor, cType } from './kernels/launch.js'
import type { External } from './lower.js'

/** A named tensor on the device. `absmax` is present for nf4. */
interface Entry {
  readonly type: TensorType
  readonly data: bigint
  readonly absmax: bigint | null
  /** Copies in other forms, by dtype: made on first use, dropped when the tensor changes. */
  readonly derived: Map<DType, bigint>
}

const FLOATS: readonly DType[] = ['f32', 'bf16', 'f16']

/** Sources that `Tensors.address` may need for a program's tensors: conversions to the dtypes it declares. */
export function conversionSources(externals: Iterable<External>): KernelSource[] {
  const wanted = new Set([...externals].filter((e) => isFloat(e.type.dtype)).map((e) => e.type.dtype))
  return [...wanted].flatMap((to) => [
    { file: 'quant', defines: { T: cType(to) } },
    ...FLOATS.filter((from) => from !== to).map((from) => ({
      file: 'cast',
      defines: { TIN: cType(from), TOUT: cType(to) },
    })),
  ])
}

/** The named tensors of a session. */
export class Tensors {
  private readonly entries = new Map<string, Entry>()
  /** Changes whenever an address that a program may have read becomes stale. */
  generation = 0

  constructor(private readonly ctx: Omit<CallContext, 'addressOf'>) {}

  typeOf(name: string): TensorType | undefined {
    return this.entries.get(name)?.type
  }

  bind(name: string, tensor: HostTensor): void {
    const known = this.entries.get(name)
    const type = isNf4(tensor) ? nf4Type(tensor) : tensor.type
    if (type.dtype === 'nf4' && !isNf4(tensor))
      throw new EngineError(`bind ${name}: an nf4 tensor needs codes and absmax`)
    const reusable = known?.derived.size === 0 && formatType(known.type) === formatType(type)
    if (known) this.ctx.device.synchronize(`binding ${name}`)
    const entry = reusable ? known : this.allocate(name, type)
    this.fill(name, entry, tensor)
  }

  private allocate(name: string, type: TensorType): Entry {
    this.remove(name)
    const { device } = this.ctx
    const packed = type.dtype === 'nf4'
    const data = device.alloc(packed ? Math.ceil(sizeOf(type.shape) / 2) : byteSize(type), `tensor ${name}`)
    const absmax = packed
      ? device.alloc(4 * Math.ceil(sizeOf(type.shape) / (type.blockSize ?? 64)), `scales of ${name}`)
      : null
    const entry = { type, data, absmax, derived: new Map<DType, bigint>() }
    this.entries.set(name, entry)
    return entry
  }

  private fill(name: string, entry: Entry, tensor: HostTensor): void {
    const { device } = this.ctx
    if (isNf4(tensor)) {
      checkFourBitTensor(`bind ${name}`, tensor)
      device.upload(entry.data, tensor.codes, `uploading ${name}`)
      if (entry.absmax !== null) device.upload(entry.absmax, tensor.absmax, `uploading ${name}`)
    } else {
      device.upload(entry.data, bytesFor(entry.type, tensor.data, name), `uploading ${name}`)
    }
  }

  read(name: string): DenseTensor {
    const entry = this.entries.get(name)
    if (!entry) throw new EngineError(`read: nothing is bound as '${name}'`)
    if (entry.type.dtype === 'nf4') throw new EngineError(`read ${name}: an nf4 constant cannot be read back`)
    const bytes = new Uint8Array(new ArrayBuffer(byteSize(entry.type)))
    this.ctx.device.synchronize(`reading ${name}`)
    this.ctx.device.download(bytes, entry.data, `reading ${name}`)
    return { type: entry.type, data: tensorOf(entry.type, bytes.buffer) }
  }

  remove(name: string): void {
    const entry = this.entries.get(name)
    if (!entry) return
    this.ctx.device.synchronize(`releasing ${name}`)
    this.release(entry)
    this.entries.delete(name)
    this.generation++
  }

  private release({ data, absmax, derived }: Entry): void {
    for (const pointer of [data, ...(absmax === null ? [] : [absmax]), ...derived.values()])
      this.ctx.device.free(pointer)
  }

  /** The address of a tensor in the form in which a program declares it; converts on first use. */
  address(external: External): bigint {
    const { name, part, type, role } = external
    const entry = this.entries.get(name)
    if (!entry) throw new EngineError(`run: ${role} '${name}' ${formatType(type)} is not bound`)
    if (part === 'codes' || part === 'absmax') return this.packedPart(name, entry, part)
    if (!sameShape(entry.type.shape, type.shape)) {
      throw new EngineError(`run: ${role} '${name}' is ${formatType(type)}, bound is ${formatType(entry.type)}`)
    }
    if (entry.type.dtype === type.dtype) return entry.data
    return role === 'state' ? this.convertState(name, entry, type) : this.derive(name, entry, type.dtype)
  }

  private packedPart(name: string, entry: Entry, part: 'codes' | 'absmax'): bigint {
    if (entry.absmax === null) {
      throw new EngineError(`run: constant '${name}' must be nf4, bound is ${formatType(entry.type)}`)
    }
    return part === 'codes' ? entry.data : entry.absmax
  }

  private derive(name: string, entry: Entry, dtype: DType): bigint {
    const known = entry.derived.get(dtype)
    if (known !== undefined) return known
    const address = this.ctx.device.alloc(byteSize({ dtype, shape: entry.type.shape }), `${name} as ${dtype}`)
    this.convert(name, entry, address, dtype)
    entry.derived.set(dtype, address)
    return address
  }

  /** A state bound in another dtype takes the program's. */
  private convertState(name: string, entry: Entry, type: TensorType): bigint {
    const address = this.ctx.device.alloc(byteSize(type), `state ${name}`)
    this.convert(name, entry, address, type.dtype)
    this.ctx.device.synchronize(`converting ${name}`)
    this.release(entry)
    this.entries.set(name, { type, data: address, absmax: null, derived: new Map() })
    this.generation++
    return address
  }

  private convert(name: string, entry: Entry, to: bigint, dtype: DType): void {
    const n = sizeOf(entry.type.shape)
    const addresses = [to, entry.data, entry.absmax ?? 0n]
    const [target, source, absmax]: Ref[] = addresses.map((_, buffer) => ({ buffer, offset: 0 }))
    const { device } = this.ctx
    const launch: Omit<Launch, 'kind' | 'sharedBytes'> =
      entry.type.dtype === 'nf4'
        ? dequantizeLaunch(
            target,
            { codes: source, absmax },
            { n, blockSize: entry.type.blockSize ?? 64, dtype, multiprocessors: device.info.multiprocessors },
          )
        : {
            source: { file: 'cast', defines: { TIN: cType(entry.type.dtype), TOUT: cType(dtype) } },
            entry: 'cast',
            grid: blocksFor(n, 4),
            block: BLOCK,
            args: [output(target), input(source), i32(n)],
          }
    const command = { kind: 'launch' as const, sharedBytes: 0, ...launch }
    const step = { label: `converting ${name}`, op: 'convert', command, reads: [], writes: [], inPlace: [] }
    callOf({ ...this.ctx, addressOf: (ref) => addresses[ref.buffer] }, step).enqueue()
  }

  close(): void {
    for (const entry of this.entries.values()) this.release(entry)
    this.entries.clear()
  }
}

function nf4Type({ shape, blockSize }: Nf4Tensor): TensorType {
  return { dtype: 'nf4', shape, blockSize }
}
