import { internal } from '../../errors.js'
import type { Program } from '../../ir/program.js'
import {
  isNf4,
  type Backend,
  type CompileOptions,
  type DenseTensor,
  type Executable,
  type HostTensor,
  type RunResult,
  type Session,
} from '../backend.js'
import { lowerProgram } from './lower.js'
import { encodeModel } from './onnx-proto.js'
import { ortOptions, type OrtOptions } from './options.js'
import { canUseWorker, inlineLink, workerLink, type OrtLink } from './worker-link.js'

/**
 * The CPU backend: a whole program becomes one ONNX model, run by onnxruntime-node in a worker thread. It computes in
 * float32; NF4 constants stay packed unless `nf4: 'dense'` asks for speed at eight times the memory.
 */
export function ortBackend(options: Partial<OrtOptions> = {}): Backend {
  return {
    name: 'ort',
    async createSession() {
      const resolved = ortOptions(options)
      const link = resolved.worker && canUseWorker() ? workerLink() : inlineLink()
      await link.send({ method: 'create', options: resolved })
      return new OrtSession(link)
    },
  }
}

/** The program as the bytes of an `.onnx` file, to look at in Netron. Weights are inputs and not part of it. */
export function programToOnnx(program: Program, options: { readonly denseNf4?: boolean } = {}): Uint8Array {
  return encodeModel(lowerProgram(program, { denseNf4: options.denseNf4 ?? false }).model)
}

class OrtSession implements Session {
  readonly backend = 'ort'

  constructor(private readonly link: OrtLink) {}

  async bind(name: string, tensor: HostTensor, options: { readonly transfer?: boolean } = {}): Promise<void> {
    const own = options.transfer ? tensor : copyOf(tensor)
    await this.link.send({ method: 'bind', name, tensor: own }, buffersOf(own))
  }

  async read(name: string): Promise<DenseTensor> {
    const answer = await this.link.send({ method: 'read', name })
    if (typeof answer !== 'object' || !('type' in answer)) throw internal('read: the executor gave no tensor')
    return answer as DenseTensor
  }

  async unbind(name: string): Promise<void> {
    await this.link.send({ method: 'unbind', name })
  }

  async compile(program: Program, options: CompileOptions = {}): Promise<Executable> {
    const executable = await this.link.send({ method: 'compile', program, options })
    if (typeof executable !== 'number') throw internal('compile: the executor gave no executable')
    return {
      run: async (feeds, names = {}) =>
        (await this.link.send({ method: 'run', executable, feeds, names })) as RunResult,
      dispose: async () => {
        await this.link.send({ method: 'release', executable })
      },
    }
  }

  async dispose(): Promise<void> {
    await this.link.send({ method: 'dispose' })
    await this.link.close()
  }
}

const viewsOf = (tensor: HostTensor) => (isNf4(tensor) ? [tensor.codes, tensor.absmax] : [tensor.data])

/** The buffers to hand over. A view of a part of a larger buffer was copied first, so each view owns its buffer. */
const buffersOf = (tensor: HostTensor): ArrayBuffer[] => [
  ...new Set(viewsOf(tensor).map((view) => view.buffer as ArrayBuffer)),
]

function copyOf(tensor: HostTensor): HostTensor {
  return isNf4(tensor)
    ? { ...tensor, codes: tensor.codes.slice(), absmax: tensor.absmax.slice() }
    : { ...tensor, data: tensor.data.slice() }
}
