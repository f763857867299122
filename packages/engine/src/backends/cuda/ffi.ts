import type KoffiModule from 'koffi'
import { BackendUnavailableError } from '../../errors.js'
import { candidates, thisMachine, type LibraryName, type SearchEnvironment } from './libraries.js'

type Koffi = typeof KoffiModule

/** A foreign function; handles and device pointers are 64-bit integers, `Buffer`s are passed by address. */
export type Foreign = ((...args: unknown[]) => number) & { async: (...args: unknown[]) => void }
export type Functions<Name extends string> = Readonly<Record<Name, Foreign>>

const DRIVER = {
  cuInit: 'uint',
  cuDriverGetVersion: 'void *',
  cuDeviceGetCount: 'void *',
  cuDeviceGet: 'void *, int',
  cuDeviceGetName: 'void *, int, int',
  cuDeviceGetAttribute: 'void *, int, int',
  cuDevicePrimaryCtxRetain: 'void *, int',
  cuDevicePrimaryCtxRelease_v2: 'int',
  cuCtxSetCurrent: 'uint64',
  cuCtxSynchronize: '',
  cuMemGetInfo_v2: 'void *, void *',
  cuMemAlloc_v2: 'void *, uint64',
  cuMemFree_v2: 'uint64',
  cuMemAllocHost_v2: 'void *, uint64',
  cuMemFreeHost: 'uint64',
  cuMemcpyHtoD_v2: 'uint64, void *, uint64',
  cuMemcpyDtoH_v2: 'void *, uint64, uint64',
  cuMemcpyHtoDAsync_v2: 'uint64, uint64, uint64, uint64',
  cuMemcpyDtoHAsync_v2: 'uint64, uint64, uint64, uint64',
  cuMemcpyDtoDAsync_v2: 'uint64, uint64, uint64, uint64',
  cuMemsetD8Async: 'uint64, uint8, uint64, uint64',
  cuModuleLoadData: 'void *, void *',
  cuModuleUnload: 'uint64',
  cuModuleGetFunction: 'void *, uint64, str',
  cuFuncSetAttribute: 'uint64, int, int',
  cuLaunchKernel: 'uint64, uint, uint, uint, uint, uint, uint, uint, uint64, void *, void *',
  cuStreamCreate: 'void *, uint',
  cuStreamDestroy_v2: 'uint64',
  cuStreamSynchronize: 'uint64',
  cuStreamBeginCapture_v2: 'uint64, int',
  cuStreamEndCapture: 'uint64, void *',
  cuGraphInstantiateWithFlags: 'void *, uint64, uint64',
  cuGraphUpload: 'uint64, uint64',
  cuGraphLaunch: 'uint64, uint64',
  cuGraphDestroy: 'uint64',
  cuGraphExecDestroy: 'uint64',
  cuEventCreate: 'void *, uint',
  cuEventDestroy_v2: 'uint64',
  cuEventRecord: 'uint64, uint64',
  cuEventQuery: 'uint64',
  cuEventElapsedTime: 'void *, uint64, uint64',
} as const

const NVRTC = {
  nvrtcVersion: 'void *, void *',
  nvrtcCreateProgram: 'void *, str, str, int, void *, void *',
  nvrtcCompileProgram: 'uint64, int, void *',
  nvrtcGetCUBINSize: 'uint64, void *',
  nvrtcGetCUBIN: 'uint64, void *',
  nvrtcGetProgramLogSize: 'uint64, void *',
  nvrtcGetProgramLog: 'uint64, void *',
  nvrtcDestroyProgram: 'void *',
} as const

const CUBLASLT = {
  cublasLtCreate: 'void *',
  cublasLtDestroy: 'uint64',
  cublasLtMatmulDescCreate: 'void *, int, int',
  cublasLtMatmulDescDestroy: 'uint64',
  cublasLtMatmulDescSetAttribute: 'uint64, int, void *, uint64',
  cublasLtMatrixLayoutCreate: 'void *, int, uint64, uint64, int64',
  cublasLtMatrixLayoutDestroy: 'uint64',
  cublasLtMatrixLayoutSetAttribute: 'uint64, int, void *, uint64',
  cublasLtMatmulPreferenceCreate: 'void *',
  cublasLtMatmulPreferenceDestroy: 'uint64',
  cublasLtMatmulPreferenceSetAttribute: 'uint64, int, void *, uint64',
  cublasLtMatmulAlgoGetHeuristic: 'uint64, uint64, uint64, uint64, uint64, uint64, uint64, int, void *, void *',
  cublasLtMatmul:
    'uint64, uint64, void *, uint64, uint64, uint64, uint64, void *, uint64, uint64, uint64, uint64, void *, uint64, uint64, uint64',
} as const

const INTERFACES = { cuda: DRIVER, nvrtc: NVRTC, cublasLt: CUBLASLT } as const

export type Driver = Functions<keyof typeof DRIVER>
export type Nvrtc = Functions<keyof typeof NVRTC>
export type CublasLt = Functions<keyof typeof CUBLASLT>

export interface Libraries {
  readonly driver: Driver
  readonly nvrtc: Nvrtc
  readonly cublasLt: CublasLt
  /** The address of a typed array's first byte; the array must stay referenced while it is used. */
  readonly addressOf: (buffer: ArrayBufferView) => bigint
  /** A view of foreign memory, such as pinned host memory. */
  readonly viewOf: (address: bigint, bytes: number) => ArrayBuffer
}

const HOW_TO_GET: Readonly<Record<LibraryName, string>> = {
  cuda: 'install the NVIDIA driver (it comes with libcuda.so.1)',
  nvrtc: 'install the CUDA toolkit 12 or 13, or `pip install nvidia-cuda-nvrtc`',
  cublasLt: 'install the CUDA toolkit 12 or 13, or `pip install nvidia-cublas`',
}

/** Loads one library. @throws BackendUnavailableError naming the library and how to get it. */
export async function loadLibrary<Name extends LibraryName>(
  name: Name,
  machine: SearchEnvironment = thisMachine(),
): Promise<Functions<keyof (typeof INTERFACES)[Name] & string>> {
  const koffi = await loadKoffi()
  let reason = 'no such file'
  for (const path of candidates(name, machine)) {
    try {
      return declare<keyof (typeof INTERFACES)[Name] & string>(koffi, path, INTERFACES[name])
    } catch (error) {
      reason = error instanceof Error ? (error.message.split('\n')[0] ?? reason) : reason
    }
  }
  throw new BackendUnavailableError(
    `cuda: no ${name} library: ${HOW_TO_GET[name]}, or name its folder in MIRASTRAL_CUDA_LIBS (last tried: ${reason})`,
  )
}

function declare<Name extends string>(
  koffi: Koffi,
  path: string,
  functions: Readonly<Record<string, string>>,
): Functions<Name> {
  const library = koffi.load(path)
  const entries = Object.entries<string>(functions).map(
    ([name, parameters]) => [name, library.func(`int ${name}(${parameters})`) as Foreign] as const,
  )
  return Object.fromEntries(entries) as Functions<Name>
}

async function loadKoffi(): Promise<Koffi> {
  try {
    return (await import('koffi')).default
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw new BackendUnavailableError(
      `cuda: the npm package koffi cannot be loaded (${reason}); reinstall the dependencies`,
    )
  }
}

/** Loads the three libraries. @throws BackendUnavailableError for the first that is missing. */
export async function loadLibraries(machine: SearchEnvironment = thisMachine()): Promise<Libraries> {
  const koffi = await loadKoffi()
  return {
    driver: await loadLibrary('cuda', machine),
    nvrtc: await loadLibrary('nvrtc', machine),
    cublasLt: await loadLibrary('cublasLt', machine),
    addressOf: (buffer) => koffi.address(buffer),
    viewOf: (address, bytes) => koffi.view(address, bytes),
  }
}
