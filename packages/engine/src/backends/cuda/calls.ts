import { internal } from '../../errors.js'
import type { Arg, Copy, Gemm, Launch, Ref } from './command.js'
import { check, type Device } from './device.js'
import type { GemmPlan, Gemms } from './gemm.js'
import type { CudaStep } from './lower.js'
import type { Modules } from './modules.js'

/** A command with its addresses: enqueues itself on the device's stream. */
export interface Call {
  readonly label: string
  readonly op: string
  /** The kernel, or the extents of a product. */
  readonly kernel: string
  readonly enqueue: () => void
}

/** What commands need to become calls. */
export interface CallContext {
  readonly device: Device
  readonly modules: Modules
  readonly gemms: Gemms
  readonly addressOf: (ref: Ref) => bigint
}

/** Alignment that all pointers of a product share: that of the buffers, unless an operand begins inside one. */
export function alignmentOf({ a, b, c, d }: Gemm): number {
  const offsets = [a, b, d, ...(c ? [c] : [])].map((ref) => ref.offset)
  return Math.min(256, ...offsets.filter((offset) => offset > 0).map((offset) => offset & -offset))
}

/** The kernel of matmul.cu for a product that cuBLASLt refuses. */
export function fallbackLaunch({ shape: s, a, b, c, d, alpha }: Gemm): Launch {
  const name = (dtype: string): string => (dtype === 'f32' ? 'float' : dtype)
  const layout = [s.m, s.n, s.k, s.lda, s.ldb, s.ldd, s.transposeA ? 1 : 0, s.transposeB ? 1 : 0]
  return {
    kind: 'launch',
    source: { file: 'matmul', defines: { T: name(s.input), TOUT: name(s.output) } },
    entry: 'matmul',
    grid: [Math.ceil(s.n / 16), Math.ceil(s.m / 16), s.batch],
    block: 256,
    sharedBytes: 0,
    args: [
      { kind: 'out', ref: d },
      { kind: 'in', ref: a },
      { kind: 'in', ref: b },
      { kind: 'in', ref: c },
      { kind: 'struct', words: layout.map((value) => ({ type: 'i32', value })) },
      ...[s.strideA, s.strideB, s.strideD].map((value) => ({ kind: 'u64', value }) as const),
      { kind: 'f32', value: alpha },
    ],
  }
}

/** Gives a step its addresses. The kernels it needs must be loaded. */
export function callOf(ctx: CallContext, step: CudaStep): Call {
  const { command, label, op } = step
  const doing = label
  switch (command.kind) {
    case 'launch':
      return { label, op, kernel: command.entry, enqueue: launchCall(ctx, command, doing) }
    case 'gemm': {
      const plan = ctx.gemms.plan(command.shape, alignmentOf(command))
      const enqueue = plan ? gemmCall(ctx, command, plan, doing) : launchCall(ctx, fallbackLaunch(command), doing)
      const { m, n, k } = command.shape
      return { label, op, kernel: `${m}x${n}x${k}`, enqueue }
    }
    case 'copy':
      return { label, op, kernel: 'copy', enqueue: copyCall(ctx, command, doing) }
  }
}

function copyCall({ device, addressOf }: CallContext, { from, to, bytes }: Copy, doing: string): () => void {
  const [target, source, size] = [addressOf(to), addressOf(from), BigInt(bytes)]
  return () =>
    check('cuMemcpyDtoDAsync', doing, device.driver.cuMemcpyDtoDAsync_v2(target, source, size, device.stream))
}

function gemmCall({ gemms, addressOf }: CallContext, gemm: Gemm, plan: GemmPlan, doing: string): () => void {
  const [a, b, d] = [addressOf(gemm.a), addressOf(gemm.b), addressOf(gemm.d)]
  const operands = { a, b, d, c: gemm.c ? addressOf(gemm.c) : null, alpha: gemm.alpha }
  return () => gemms.run(plan, operands, doing)
}

/** Launches a kernel with arguments laid out once. */
function launchCall({ device, modules, addressOf }: CallContext, launch: Launch, doing: string): () => void {
  const { source, entry, grid, block, sharedBytes, args } = launch
  const kernel = modules.function(source, entry, sharedBytes)
  const { values, pointers } = packArguments(args, addressOf, device.libraries.addressOf)
  const { driver, stream } = device
  return () => {
    if (values.byteLength === 0) throw internal('launch arguments were released')
    const status = driver.cuLaunchKernel(
      kernel,
      grid[0],
      grid[1],
      grid[2],
      block,
      1,
      1,
      sharedBytes,
      stream,
      pointers,
      null,
    )
    check('cuLaunchKernel', doing, status)
  }
}

/** Arguments at 8-byte steps, and the pointers to them that cuLaunchKernel takes. */
function packArguments(
  args: readonly Arg[],
  addressOf: (ref: Ref) => bigint,
  hostAddressOf: (view: ArrayBufferView) => bigint,
): { values: Uint8Array; pointers: BigUint64Array } {
  const sizes = args.map(sizeOfArgument)
  const values = new Uint8Array(
    new ArrayBuffer(
      Math.max(
        8,
        sizes.reduce((total, size) => total + size, 0),
      ),
    ),
  )
  const base = hostAddressOf(values)
  const view = new DataView(values.buffer)
  const pointers = new BigUint64Array(new ArrayBuffer(Math.max(1, args.length) * 8))
  let at = 0
  args.forEach((arg, i) => {
    pointers[i] = base + BigInt(at)
    writeArgument(view, at, arg, addressOf)
    at += sizes[i]
  })
  return { values, pointers }
}

function sizeOfArgument(arg: Arg): number {
  if (arg.kind === 'table') return arg.slots * 8
  return arg.kind === 'struct' ? Math.ceil((arg.words.length * 4) / 8) * 8 : 8
}

function writeArgument(view: DataView, at: number, arg: Arg, addressOf: (ref: Ref) => bigint): void {
  switch (arg.kind) {
    case 'in':
    case 'out':
      view.setBigUint64(at, arg.ref ? addressOf(arg.ref) : 0n, true)
      break
    case 'i32':
      view.setInt32(at, arg.value, true)
      break
    case 'u32':
      view.setUint32(at, arg.value, true)
      break
    case 'u64':
      view.setBigUint64(at, BigInt(arg.value), true)
      break
    case 'f32':
      view.setFloat32(at, arg.value, true)
      break
    case 'table':
      arg.entries.forEach((entry, i) => writeArgument(view, at + 8 * i, entry, addressOf))
      break
    case 'struct':
      arg.words.forEach(({ type, value }, i) => {
        if (type === 'f32') view.setFloat32(at + 4 * i, value, true)
        else view.setInt32(at + 4 * i, value, true)
      })
      break
  }
}
