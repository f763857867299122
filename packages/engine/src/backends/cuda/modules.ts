import { internal } from '../../errors.js'
import { Compiler, sourceKey, type KernelSource } from './compiler.js'
import { check, type Device } from './device.js'

const MAX_DYNAMIC_SHARED_MEMORY = 8

/** The compiled kernels of a device, each source loaded once. */
export class Modules {
  private readonly compiler: Compiler
  private readonly loading = new Map<string, Promise<void>>()
  private readonly modules = new Map<string, bigint>()
  private readonly functions = new Map<string, bigint>()
  private readonly sharedBytes = new Map<bigint, number>()

  constructor(private readonly device: Device) {
    this.compiler = new Compiler(device.libraries, device.info.architecture)
  }

  /** Compiles and loads sources, those not yet loaded at once. */
  async load(sources: Iterable<KernelSource>): Promise<void> {
    const pending = [...sources].map((source) => {
      const key = sourceKey(source)
      const known = this.loading.get(key)
      if (known) return known
      const fresh = this.loadOne(key, source)
      this.loading.set(key, fresh)
      return fresh
    })
    await Promise.all(pending)
  }

  private async loadOne(key: string, source: KernelSource): Promise<void> {
    const code = await this.compiler.compile(source)
    this.modules.set(key, this.device.value('cuModuleLoadData', `loading ${key}`, code))
  }

  /** The kernel of a loaded source, allowed to use `sharedBytes` of dynamic shared memory. */
  function(source: KernelSource, entry: string, sharedBytes: number): bigint {
    const key = sourceKey(source)
    const name = `${key}/${entry}`
    const known = this.functions.get(name)
    const handle = known ?? this.find(key, name, entry)
    if (sharedBytes > 48 * 1024 && (this.sharedBytes.get(handle) ?? 0) < sharedBytes) {
      const status = this.device.driver.cuFuncSetAttribute(handle, MAX_DYNAMIC_SHARED_MEMORY, sharedBytes)
      check('cuFuncSetAttribute', `${name} with ${sharedBytes} bytes of shared memory`, status)
      this.sharedBytes.set(handle, sharedBytes)
    }
    return handle
  }

  private find(key: string, name: string, entry: string): bigint {
    const module = this.modules.get(key)
    if (module === undefined) throw internal(`kernel source ${key} was not loaded`)
    const handle = this.device.value('cuModuleGetFunction', name, module, entry)
    this.functions.set(name, handle)
    return handle
  }

  close(): void {
    for (const module of this.modules.values()) this.device.driver.cuModuleUnload(module)
  }
}
