import { BackendUnavailableError } from '../../errors.js'
import type { Backend } from '../backend.js'
import type { DeviceInfo } from './device.js'
import { defaultCudaOptions, type CudaOptions } from './options.js'
import type { CudaSession } from './session.js'

/** A backend whose sessions also tell their memory and profile their programs. */
export interface CudaBackend extends Backend {
  createSession(): Promise<CudaSession>
}

/**
 * Programs on an NVIDIA GPU (compute capability 8.0 or later): kernels compiled by NVRTC, products by cuBLASLt, called
 * through koffi. Nothing is loaded before the first session.
 */
export function cudaBackend(options: Partial<CudaOptions> = {}): CudaBackend {
  const all = { ...defaultCudaOptions, ...options }
  return {
    name: 'cuda',
    async createSession() {
      const [{ loadLibraries }, { Device }, { CudaSession }] = await Promise.all([
        import('./ffi.js'),
        import('./device.js'),
        import('./session.js'),
      ])
      const libraries = await loadLibraries()
      return new CudaSession(Device.open(libraries, all.device), all)
    },
  }
}

export type CudaProbe =
  { readonly available: true; readonly device: DeviceInfo } | { readonly available: false; readonly reason: string }

/** Whether the backend can run here; if not, one line that says what is missing and how to get it. Never throws. */
export async function probeCuda(ordinal = 0): Promise<CudaProbe> {
  try {
    const [{ loadLibraries }, { Device }] = await Promise.all([import('./ffi.js'), import('./device.js')])
    const device = Device.open(await loadLibraries(), ordinal)
    const { info } = device
    device.close()
    return { available: true, device: info }
  } catch (error) {
    if (!(error instanceof BackendUnavailableError)) {
      return { available: false, reason: `cuda: ${error instanceof Error ? error.message : String(error)}` }
    }
    return { available: false, reason: error.message }
  }
}
