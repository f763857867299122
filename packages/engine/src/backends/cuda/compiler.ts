import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { internal } from '../../errors.js'
import { CudaError } from './errors.js'
import type { Foreign, Libraries } from './ffi.js'

/** A `.cu` file and the macros that specialise it. */
export interface KernelSource {
  /** File name in kernels/, without `.cu`. */
  readonly file: string
  readonly defines: Readonly<Record<string, string | number>>
}

export const sourceKey = ({ file, defines }: KernelSource): string =>
  [file, ...Object.entries(defines).map(([name, value]) => `${name}=${value}`)].join(' ')

/** The folder of the `.cu` files: beside this module in the sources, under `src` when running from `dist`. */
export function kernelFolder(base: string = import.meta.url): string {
  const places = ['./kernels/', '../src/backends/cuda/kernels/'].map((relative) =>
    fileURLToPath(new URL(relative, base)),
  )
  const folder = places.find((place) => existsSync(join(place, 'common.cuh')))
  if (!folder) throw internal(`the CUDA kernel sources are missing: ${places.join(', ')}`)
  return folder
}

/** Where compiled kernels are kept: MIRASTRAL_CACHE, else the user's cache folder. */
export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const root = env.MIRASTRAL_CACHE ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'mirastral')
  return join(root, 'cuda')
}

/** Compiles `.cu` files with NVRTC to machine code of one architecture, keeping the results on disk. */
export class Compiler {
  private readonly folder = kernelFolder()
  private readonly version: string

  constructor(
    private readonly libraries: Pick<Libraries, 'nvrtc' | 'addressOf'>,
    /** Compute capability, as 90. */
    private readonly architecture: number,
    private readonly cache: string | null = cacheFolder(),
  ) {
    const [major, minor] = [new Int32Array(1), new Int32Array(1)]
    this.check('nvrtcVersion', 'starting', libraries.nvrtc.nvrtcVersion(major, minor))
    this.version = `${major[0]}.${minor[0]}`
  }

  /** Hopper's warp-group products need the target that is named after the chip. */
  private get target(): string {
    return this.architecture === 90 ? 'sm_90a' : `sm_${this.architecture}`
  }

  /** The whole text of a kernel file with its macros and the common part. */
  textOf({ file, defines }: KernelSource): string {
    const macros = Object.entries(defines).map(([name, value]) => `#define ${name} ${value}\n`)
    const read = (name: string): string => readFileSync(join(this.folder, name), 'utf8')
    const body = read(`${file}.cu`).replace(/^#include "(.+)"$/gm, (_, name: string) => read(name))
    return read('common.cuh') + macros.join('') + body
  }

  /** Machine code (a cubin). Compiling happens on a thread of the pool, so several sources compile at once. */
  async compile(source: KernelSource): Promise<Uint8Array> {
    const text = this.textOf(source)
    const hash = createHash('sha256').update(`${this.version}\0${this.target}\0${text}`).digest('hex')
    const path = this.cache === null ? null : join(this.cache, `${source.file}-${hash.slice(0, 32)}.cubin`)
    if (path !== null && existsSync(path)) return new Uint8Array(readFileSync(path))
    const code = await this.build(source, text)
    if (path !== null && this.cache !== null) this.keep(path, code)
    return code
  }

  private keep(path: string, code: Uint8Array): void {
    mkdirSync(this.cache ?? '', { recursive: true })
    const temporary = `${path}.${process.pid}`
    writeFileSync(temporary, code)
    renameSync(temporary, path)
  }

  private async build(source: KernelSource, text: string): Promise<Uint8Array> {
    const { nvrtc, addressOf } = this.libraries
    const doing = `compiling ${sourceKey(source)}`
    const handle = new BigUint64Array(1)
    this.check('nvrtcCreateProgram', doing, nvrtc.nvrtcCreateProgram(handle, text, `${source.file}.cu`, 0, null, null))
    const options = [`--gpu-architecture=${this.target}`, '--std=c++17', '-default-device', '-w']
    const strings = options.map((option) => Buffer.from(`${option}\0`))
    const pointers = new BigUint64Array(strings.map((s) => addressOf(s)))
    const status = await callAsync(nvrtc.nvrtcCompileProgram, handle[0], options.length, pointers)
    if (status !== 0) {
      const log = this.sized(handle[0], nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
      throw new CudaError(
        'nvrtcCompileProgram',
        status,
        doing,
        Buffer.from(log).toString('utf8').replace(/\0.*$/s, '').trim(),
      )
    }
    const code = this.sized(handle[0], nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    nvrtc.nvrtcDestroyProgram(handle)
    return code
  }

  private sized(program: bigint, sizeOf: Foreign, read: Foreign): Uint8Array {
    const size = new BigUint64Array(1)
    this.check('nvrtcGetSize', 'reading a result', sizeOf(program, size))
    const bytes = new Uint8Array(Number(size[0]))
    this.check('nvrtcGet', 'reading a result', read(program, bytes))
    return bytes
  }

  private check(call: string, doing: string, status: number): void {
    if (status !== 0) throw new CudaError(call, status, doing, 'an NVRTC error')
  }
}

function callAsync(fn: Foreign, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    fn.async(...args, (error: Error | null, result: number) => (error ? reject(error) : resolve(result)))
  })
}
