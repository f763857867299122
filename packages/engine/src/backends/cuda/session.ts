import { EngineError } from '../../errors.js'
import type { Program } from '../../ir/program.js'
import { byteSize, sizeOf } from '../../ir/tensor-type.js'
import type { CompileOptions, DenseTensor, HostTensor, Session } from '../backend.js'
import { autocast } from '../../planner/autocast.js'
import { alignmentOf, fallbackLaunch, type Call, type CallContext } from './calls.js'
import type { KernelSource } from './compiler.js'
import type { Device } from './device.js'
import { CudaExecutable } from './executable.js'
import { Gemms } from './gemm.js'
import { lowerProgram, type CudaStep, type Lowered } from './lower.js'
import { Modules } from './modules.js'
import type { CudaOptions } from './options.js'
import { conversionSources, Tensors } from './tensors.js'

/** Polls without pause for this long, then once per millisecond. */
const SPIN_MILLISECONDS = 20

/** What a session holds on its device, in bytes. */
export interface CudaMemory {
  /** Everything this session allocated. */
  readonly allocated: number
  /** Working memory shared by the programs. */
  readonly arena: number
  /** Of the whole device, as nvidia-smi counts it. */
  readonly used: number
  readonly total: number
}

/** Tensors and programs on one GPU. */
export class CudaSession implements Session {
  readonly backend = 'cuda'
  readonly tensors: Tensors
  readonly context: Omit<CallContext, 'addressOf'>
  private readonly modules: Modules
  private readonly gemms: Gemms
  private arenaAddress = 0n
  private arenaBytes = 0
  private arenaMoves = 0
  private open = true

  constructor(
    readonly device: Device,
    readonly options: CudaOptions,
  ) {
    this.modules = new Modules(device)
    this.gemms = new Gemms(device)
    this.context = { device, modules: this.modules, gemms: this.gemms }
    this.tensors = new Tensors(this.context)
  }

  get isOpen(): boolean {
    return this.open
  }

  /** Changes when an address that a prepared program holds becomes stale. */
  get generation(): number {
    return this.tensors.generation + this.arenaMoves
  }

  bind(name: string, tensor: HostTensor): Promise<void> {
    return attempt(() => this.tensors.bind(name, tensor))
  }

  read(name: string): Promise<DenseTensor> {
    return attempt(() => this.tensors.read(name))
  }

  unbind(name: string): Promise<void> {
    return attempt(() => this.tensors.remove(name))
  }

  async compile(program: Program, options: CompileOptions = {}): Promise<CudaExecutable> {
    const rounded = Object.entries(options.prepackConstants ?? {}).find(([, packing]) => packing !== 'exact')
    if (rounded) throw new EngineError(`the cuda backend rounds no constants, got ${rounded.join(': ')}`)
    const { compute } = this.options
    const lowered = this.lower(compute === 'program' ? program : autocast(program, compute))
    await this.modules.load(sourcesOf(lowered, this.gemms))
    return new CudaExecutable(this, lowered)
  }

  /** Lowers with nf4 weights packed or resident, as the options say; `auto` decides by the memory that is left. */
  private lower(program: Program): Lowered {
    const { multiprocessors, architecture } = this.device.info
    const packed = lowerProgram(program, { nf4: 'packed', multiprocessors, architecture })
    const { nf4 } = this.options
    if (nf4 === 'packed' || (nf4 === 'auto' && !this.hasRoom(packed))) return packed
    return lowerProgram(program, { nf4: 'resident', multiprocessors, architecture })
  }

  /** Whether 16-bit copies of all nf4 weights fit beside everything else, with a seventh of the device to spare. */
  private hasRoom({ program, memory }: Lowered): boolean {
    const { free, total } = this.device.memory()
    const budget = Math.min(free, (this.options.memoryLimit ?? Infinity) - this.device.allocatedBytes)
    let needed = Math.max(0, memory.arenaBytes - this.arenaBytes)
    for (const input of program.inputs) {
      const type = program.types[input.value]
      if (input.role === 'input') continue
      if (this.tensors.typeOf(input.name) === undefined) needed += byteSize(type)
      if (type.dtype === 'nf4') needed += 2 * sizeOf(type.shape)
    }
    return budget - needed > total / 7
  }

  /** Working memory of at least `bytes`; programs run one after the other, so they share it. */
  arena(bytes: number): bigint {
    if (bytes <= this.arenaBytes) return this.arenaAddress
    this.device.synchronize('growing the working memory')
    if (this.arenaBytes > 0) this.device.free(this.arenaAddress)
    this.arenaBytes = 0
    // Also where the larger one cannot be had: a smaller program may run next.
    this.arenaMoves++
    this.arenaAddress = this.device.alloc(bytes, 'the working memory of the programs')
    this.arenaBytes = bytes
    return this.arenaAddress
  }

  /** Enqueues one call; with the option `synchronous`, waits for it, so that a fault names its op. */
  enqueue(call: Call): void {
    call.enqueue()
    if (this.options.synchronous) this.device.synchronize(call.label)
  }

  /** Resolves when the work before the event is done, without blocking the event loop. */
  wait(event: bigint, doing: string): Promise<void> {
    const start = performance.now()
    return new Promise((resolve, reject) => {
      const poll = (): void => {
        try {
          if (this.device.isDone(event, doing)) resolve()
          else if (performance.now() - start < SPIN_MILLISECONDS) setImmediate(poll)
          else setTimeout(poll, 1)
        } catch (error) {
          reject(error instanceof Error ? error : new EngineError(String(error)))
        }
      }
      poll()
    })
  }

  memory(): CudaMemory {
    const { free, total } = this.device.memory()
    return { allocated: this.device.allocatedBytes, arena: this.arenaBytes, used: total - free, total }
  }

  dispose(): Promise<void> {
    if (!this.open) return Promise.resolve()
    this.open = false
    return attempt(() => {
      this.device.synchronize('closing the session')
      this.modules.close()
      this.gemms.close()
      this.tensors.close()
      this.device.close()
    })
  }
}

function attempt<T>(act: () => T): Promise<T> {
  return new Promise((resolve) => resolve(act()))
}

/** The kernels that a lowered program may launch. */
function sourcesOf({ steps, externals }: Lowered, gemms: Gemms): KernelSource[] {
  const ofStep = ({ command }: CudaStep): KernelSource[] => {
    if (command.kind === 'launch') return [command.source]
    if (command.kind === 'copy' || gemms.plan(command.shape, alignmentOf(command))) return []
    return [fallbackLaunch(command).source]
  }
  return [...steps.flatMap(ofStep), ...conversionSources(externals.values())]
}
