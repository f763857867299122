import { BackendUnavailableError } from '../../errors.js'
import { CudaError, CudaOutOfMemoryError } from './errors.js'
import type { Driver, Foreign, Libraries } from './ffi.js'

const OUT_OF_MEMORY = 2
const NOT_READY = 600
const STATUS_NAMES: Readonly<Record<number, string>> = {
  1: 'invalid value',
  2: 'out of memory',
  3: 'not initialized',
  100: 'no device',
  200: 'invalid image',
  201: 'invalid context',
  209: 'no binary for this GPU',
  218: 'invalid PTX',
  400: 'invalid handle',
  500: 'not found',
  700: 'illegal address',
  701: 'launch out of resources',
  702: 'launch timeout',
  716: 'misaligned address',
  717: 'invalid address space',
  719: 'launch failure',
  900: 'capture unsupported',
  901: 'capture invalidated',
  999: 'unknown error',
}

const ATTRIBUTE = { multiprocessors: 16, major: 75, minor: 76 } as const
const NON_BLOCKING_STREAM = 1

/** What is known of a device. */
export interface DeviceInfo {
  readonly name: string
  /** Compute capability, as 90. */
  readonly architecture: number
  readonly multiprocessors: number
  /** As 13000. */
  readonly driverVersion: number
}

/** Calls a driver function and turns its status into an error. */
export function check(call: string, doing: string, status: number): void {
  if (status !== 0) throw new CudaError(call, status, doing, STATUS_NAMES[status] ?? 'an error')
}

/** One GPU with its primary context, one stream, and its memory. */
export class Device {
  readonly info: DeviceInfo
  readonly stream: bigint
  private readonly allocations = new Map<bigint, number>()
  private readonly pinned = new Set<bigint>()

  private constructor(
    readonly libraries: Libraries,
    private readonly ordinal: number,
  ) {
    this.info = describe(libraries.driver, ordinal)
    const context = this.value('cuDevicePrimaryCtxRetain', 'opening the device', ordinal)
    check('cuCtxSetCurrent', 'opening the device', this.driver.cuCtxSetCurrent(context))
    this.stream = this.value('cuStreamCreate', 'opening the device', NON_BLOCKING_STREAM)
  }

  /** @throws BackendUnavailableError if there is no such device. */
  static open(libraries: Libraries, ordinal: number): Device {
    checkDevices(libraries.driver, ordinal)
    return new Device(libraries, ordinal)
  }

  get driver(): Driver {
    return this.libraries.driver
  }

  /** Calls a function whose first parameter receives a 64-bit handle. */
  value(name: keyof Driver, doing: string, ...args: unknown[]): bigint {
    return handleFrom(this.driver[name], name, doing, ...args)
  }

  /** Free and total bytes of the device. */
  memory(): { free: number; total: number } {
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)]
    check('cuMemGetInfo', 'reading the memory size', this.driver.cuMemGetInfo_v2(free, total))
    return { free: Number(free[0]), total: Number(total[0]) }
  }

  /** Bytes that this device object holds. */
  get allocatedBytes(): number {
    return [...this.allocations.values()].reduce((total, bytes) => total + bytes, 0)
  }

  /** @throws CudaOutOfMemoryError with the sizes. */
  alloc(bytes: number, what: string): bigint {
    const pointer = new BigUint64Array(1)
    const status = this.driver.cuMemAlloc_v2(pointer, BigInt(Math.max(bytes, 16)))
    if (status === OUT_OF_MEMORY) {
      const { free, total } = this.memory()
      throw new CudaOutOfMemoryError(what, bytes, free, total)
    }
    check('cuMemAlloc', what, status)
    this.allocations.set(pointer[0], bytes)
    return pointer[0]
  }

  free(pointer: bigint): void {
    if (this.allocations.delete(pointer)) check('cuMemFree', 'freeing memory', this.driver.cuMemFree_v2(pointer))
  }

  /** Host memory that the device copies from and to without waiting. */
  allocPinned(bytes: number): { address: bigint; buffer: ArrayBuffer } {
    const size = Math.max(bytes, 16)
    const address = this.value('cuMemAllocHost_v2', 'allocating host memory', BigInt(size))
    this.pinned.add(address)
    return { address, buffer: this.libraries.viewOf(address, size) }
  }

  freePinned(address: bigint): void {
    if (this.pinned.delete(address)) check('cuMemFreeHost', 'freeing host memory', this.driver.cuMemFreeHost(address))
  }

  /** Waits for all work. Faults of earlier kernels surface here. */
  synchronize(doing: string): void {
    check('cuStreamSynchronize', doing, this.driver.cuStreamSynchronize(this.stream))
  }

  upload(pointer: bigint, data: ArrayBufferView, doing: string): void {
    if (data.byteLength === 0) return
    check('cuMemcpyHtoD', doing, this.driver.cuMemcpyHtoD_v2(pointer, data, BigInt(data.byteLength)))
  }

  download(data: ArrayBufferView, pointer: bigint, doing: string): void {
    if (data.byteLength === 0) return
    check('cuMemcpyDtoH', doing, this.driver.cuMemcpyDtoH_v2(data, pointer, BigInt(data.byteLength)))
  }

  createEvent(timing: boolean): bigint {
    return this.value('cuEventCreate', 'creating an event', timing ? 0 : 2)
  }

  /** Whether the work before the event is done. @throws CudaError if it failed. */
  isDone(event: bigint, doing: string): boolean {
    const status = this.driver.cuEventQuery(event)
    if (status === NOT_READY) return false
    check('cuEventQuery', doing, status)
    return true
  }

  close(): void {
    this.driver.cuStreamSynchronize(this.stream)
    for (const pointer of [...this.allocations.keys()]) this.free(pointer)
    for (const address of [...this.pinned]) this.freePinned(address)
    this.driver.cuStreamDestroy_v2(this.stream)
    this.driver.cuDevicePrimaryCtxRelease_v2(this.ordinal)
  }
}

/** Calls a function whose first parameter receives a 64-bit handle. */
export function handleFrom(fn: Foreign, name: string, doing: string, ...args: unknown[]): bigint {
  const handle = new BigUint64Array(1)
  check(name, doing, fn(handle, ...args))
  return handle[0]
}

function checkDevices(driver: Driver, ordinal: number): void {
  const status = driver.cuInit(0)
  if (status !== 0) {
    const reason = STATUS_NAMES[status] ?? 'an error'
    throw new BackendUnavailableError(
      `cuda: the NVIDIA driver does not start: ${reason} (${status}); check that nvidia-smi lists a GPU`,
    )
  }
  const count = new Int32Array(1)
  check('cuDeviceGetCount', 'counting devices', driver.cuDeviceGetCount(count))
  if (ordinal >= count[0]) {
    throw new BackendUnavailableError(
      `cuda: device ${ordinal} must be one of ${count[0]}; check nvidia-smi and CUDA_VISIBLE_DEVICES`,
    )
  }
  const { architecture, name } = describe(driver, ordinal)
  if (architecture < 80) {
    throw new BackendUnavailableError(
      `cuda: ${name} has compute capability ${architecture / 10}, 8.0 or later is needed`,
    )
  }
}

function describe(driver: Driver, ordinal: number): DeviceInfo {
  const attribute = (id: number): number => {
    const value = new Int32Array(1)
    check('cuDeviceGetAttribute', 'describing the device', driver.cuDeviceGetAttribute(value, id, ordinal))
    return value[0]
  }
  const name = new Uint8Array(128)
  check('cuDeviceGetName', 'describing the device', driver.cuDeviceGetName(name, name.length, ordinal))
  const version = new Int32Array(1)
  check('cuDriverGetVersion', 'describing the device', driver.cuDriverGetVersion(version))
  return {
    name: Buffer.from(name).toString('utf8').replace(/\0.*$/s, ''),
    architecture: attribute(ATTRIBUTE.major) * 10 + attribute(ATTRIBUTE.minor),
    multiprocessors: attribute(ATTRIBUTE.multiprocessors),
    driverVersion: version[0],
  }
}
