import { internal } from '../../errors.js'
import { byteSize } from '../../ir/tensor-type.js'
import type { Executable, NamePrefixes, RunResult, TensorData } from '../backend.js'
import { boundName, checkFeeds } from '../bindings.js'
import { callOf, type Call } from './calls.js'
import type { Ref } from './command.js'
import { check } from './device.js'
import { CudaGraph } from './graph.js'
import { bytesFor, resultOf } from './host-data.js'
import type { External, Lowered } from './lower.js'
import type { CudaSession } from './session.js'

/** Runs that may be queued before the first of them is awaited. */
const MAX_SLOTS = 8

/** Sets of states whose addresses are kept for a program; the one used longest ago gives way. */
const MAX_RECORDINGS = 64

/** Pinned host memory for the inputs and outputs of one run in flight. */
interface Slot {
  readonly address: bigint
  readonly buffer: ArrayBuffer
  readonly done: bigint
  busy: boolean
}

/** The program with the addresses of one set of states. */
interface Recording {
  readonly externals: ReadonlyMap<number, bigint>
  readonly calls: readonly Call[]
  graph: CudaGraph | null
  runs: number
}

/** Time of a program's steps on the device. */
export interface Profile {
  /** Milliseconds by op. */
  readonly families: Readonly<Record<string, number>>
  /** Milliseconds and number of steps by op and kernel. */
  readonly kernels: Readonly<Record<string, { readonly ms: number; readonly count: number }>>
  readonly total: number
}

/**
 * A program on a CUDA session. The first run enqueues kernel by kernel; the second records them as a graph, which later
 * runs replay; so it is for each set of states that it is run with. `run` enqueues at once and returns; several runs may be in flight, and their promises resolve in order.
 */
export class CudaExecutable implements Executable {
  /** By the names of the states, the one used last at the end. */
  private readonly recordings = new Map<string, Recording>()
  private preparedAt = -1
  private arena = 0n
  private readonly slots: Slot[] = []
  private readonly inputOffsets: readonly number[]
  private readonly outputOffsets: readonly number[]
  private readonly stagingBytes: number

  constructor(
    private readonly session: CudaSession,
    /** The plan, for printing and for its memory. */
    readonly lowered: Lowered,
  ) {
    const sizes = [...lowered.inputs.values(), ...lowered.outputs.values()].map(
      ({ type }) => Math.ceil(byteSize(type) / 64) * 64,
    )
    const offsets = sizes.map((_, i) => sizes.slice(0, i).reduce((total, size) => total + size, 0))
    this.inputOffsets = offsets.slice(0, lowered.inputs.size)
    this.outputOffsets = offsets.slice(lowered.inputs.size)
    this.stagingBytes = sizes.reduce((total, size) => total + size, 0)
  }

  run(feeds: Readonly<Record<string, TensorData>>, names: NamePrefixes = {}): Promise<RunResult> {
    try {
      checkFeeds(this.lowered.program, feeds)
      const recording = this.prepare(names)
      const slot = this.takeSlot()
      this.upload(slot, feeds)
      this.enqueue(recording)
      this.download(slot, recording)
      return this.finish(slot)
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : internal(String(error)))
    }
  }

  private get doing(): string {
    return `running ${this.lowered.program.name}`
  }

  /** Resolves addresses, again whenever a tensor of the session has moved. */
  private prepare(names: NamePrefixes): Recording {
    const { lowered, session } = this
    const key = JSON.stringify(names)
    const known = this.preparedAt === session.generation ? this.recordings.get(key) : undefined
    if (known) {
      this.recordings.delete(key)
      this.recordings.set(key, known)
      return known
    }
    const externals = new Map(
      [...lowered.externals].map(([id, external]) => [id, session.tensors.address(renamed(external, names))]),
    )
    this.arena = session.arena(lowered.memory.arenaBytes)
    if (this.preparedAt !== session.generation) this.forget(this.recordings.size)
    if (this.recordings.size === MAX_RECORDINGS) this.forget(1)
    const addressOf = (ref: Ref): bigint => this.addressOf(ref, externals)
    const calls = lowered.steps.map((step) => callOf({ ...session.context, addressOf }, step))
    const recording = { externals, calls, graph: null, runs: 0 }
    this.recordings.set(key, recording)
    this.preparedAt = session.generation
    return recording
  }

  /** Lets go of what was used longest ago. */
  private forget(count: number): void {
    if (count === 0) return
    this.session.device.synchronize(this.doing)
    for (const [key, { graph }] of [...this.recordings].slice(0, count)) {
      graph?.dispose()
      this.recordings.delete(key)
    }
  }

  private addressOf({ buffer, offset }: Ref, externals: ReadonlyMap<number, bigint>): bigint {
    const location = this.lowered.memory.locations.get(buffer)
    const external = location && 'external' in location ? location.external : buffer
    const base = externals.get(external)
    if (base !== undefined) return base + BigInt(offset)
    if (!location || !('offset' in location)) throw internal(`buffer ${buffer} has no place`)
    return this.arena + BigInt(location.offset + offset)
  }

  private takeSlot(): Slot {
    const free = this.slots.find((slot) => !slot.busy)
    if (free) {
      free.busy = true
      return free
    }
    const { device } = this.session
    if (this.slots.length >= MAX_SLOTS)
      throw internal(`more than ${MAX_SLOTS} runs of ${this.lowered.program.name} in flight`)
    const slot = { ...device.allocPinned(this.stagingBytes), done: device.createEvent(false), busy: true }
    this.slots.push(slot)
    return slot
  }

  private upload(slot: Slot, feeds: Readonly<Record<string, TensorData>>): void {
    const { driver, stream } = this.session.device
    const none = new Map<number, bigint>()
    const staging = new Uint8Array(slot.buffer)
    ;[...this.lowered.inputs].forEach(([name, { ref, type }], i) => {
      const bytes = bytesFor(type, feeds[name], name)
      if (bytes.length === 0 || !this.lowered.memory.locations.has(ref.buffer)) return
      staging.set(bytes, this.inputOffsets[i])
      const from = slot.address + BigInt(this.inputOffsets[i])
      check(
        'cuMemcpyHtoDAsync',
        this.doing,
        driver.cuMemcpyHtoDAsync_v2(this.addressOf(ref, none), from, BigInt(bytes.length), stream),
      )
    })
  }

  private enqueue(recording: Recording): void {
    const { session, doing } = this
    const all = (): void => recording.calls.forEach((call) => session.enqueue(call))
    if (session.options.graphs && recording.runs > 0) {
      recording.graph ??= CudaGraph.capture(session.device, doing, all)
      recording.graph.launch(doing)
    } else {
      all()
    }
    recording.runs++
  }

  private download(slot: Slot, { externals }: Recording): void {
    const { driver, stream } = this.session.device
    ;[...this.lowered.outputs.values()].forEach(({ ref, type }, i) => {
      const to = slot.address + BigInt(this.outputOffsets[i])
      const from = this.addressOf(ref, externals)
      check('cuMemcpyDtoHAsync', this.doing, driver.cuMemcpyDtoHAsync_v2(to, from, BigInt(byteSize(type)), stream))
    })
    check('cuEventRecord', this.doing, driver.cuEventRecord(slot.done, stream))
  }

  private async finish(slot: Slot): Promise<RunResult> {
    await this.session.wait(slot.done, this.doing)
    const results = [...this.lowered.outputs].map(([name, { type }], i) => {
      const start = this.outputOffsets[i]
      return [name, resultOf(type, slot.buffer.slice(start, start + byteSize(type)))] as const
    })
    slot.busy = false
    return Object.fromEntries(results)
  }

  /** Runs once with a time stamp after every step. States change as in a run. */
  profile(feeds: Readonly<Record<string, TensorData>>): Profile {
    checkFeeds(this.lowered.program, feeds)
    const { calls } = this.prepare({})
    const { device } = this.session
    const slot = this.takeSlot()
    this.upload(slot, feeds)
    const events = [device.createEvent(true)]
    const record = (event: bigint): void =>
      check('cuEventRecord', this.doing, device.driver.cuEventRecord(event, device.stream))
    record(events[0])
    for (const call of calls) {
      call.enqueue()
      const event = device.createEvent(true)
      record(event)
      events.push(event)
    }
    device.synchronize(this.doing)
    slot.busy = false
    const between = (from: bigint, to: bigint): number => {
      const time = new Float32Array(1)
      check('cuEventElapsedTime', this.doing, device.driver.cuEventElapsedTime(time, from, to))
      return time[0]
    }
    const families: Record<string, number> = {}
    const kernels: Record<string, { ms: number; count: number }> = {}
    calls.forEach(({ op, kernel }, i) => {
      const ms = between(events[i], events[i + 1])
      families[op] = (families[op] ?? 0) + ms
      const sum = (kernels[`${op}: ${kernel}`] ??= { ms: 0, count: 0 })
      sum.ms += ms
      sum.count++
    })
    const total = between(events[0], events[events.length - 1])
    events.forEach((event) => device.driver.cuEventDestroy_v2(event))
    return { families, kernels, total }
  }

  dispose(): Promise<void> {
    const { device } = this.session
    if (this.session.isOpen) {
      device.synchronize(this.doing)
      this.forget(this.recordings.size)
      for (const slot of this.slots) {
        device.driver.cuEventDestroy_v2(slot.done)
        device.freePinned(slot.address)
      }
    }
    this.recordings.clear()
    this.slots.length = 0
    this.preparedAt = -1
    return Promise.resolve()
  }
}

function renamed(external: External, names: NamePrefixes): External {
  return external.role === 'state' ? { ...external, name: boundName(external.name, names) } : external
}
