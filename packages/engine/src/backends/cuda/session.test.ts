import { expect, test } from 'vitest'
import { Graph } from '../../ir/graph.js'
import { f32, i32 } from '../../ir/tensor-type.js'
import { reshape } from '../../ops/movement.js'
import { Device } from './device.js'
import { CudaOutOfMemoryError } from './errors.js'
import type { Libraries } from './ffi.js'
import { defaultCudaOptions } from './options.js'
import { CudaSession } from './session.js'

const CAPACITY = 2 ** 30

/** The libraries of a device without arithmetic: memory is only counted. */
function countingLibraries(): { libraries: Libraries; held: Map<bigint, number> } {
  const held = new Map<bigint, number>()
  let next = 4096n
  const special: Record<string, (...args: never[]) => number> = {
    cuDeviceGetCount: (count: Int32Array) => {
      count[0] = 1
      return 0
    },
    cuDeviceGetAttribute: (value: Int32Array) => {
      value[0] = 9
      return 0
    },
    cuMemGetInfo_v2: (free: BigUint64Array, total: BigUint64Array) => {
      total[0] = BigInt(CAPACITY)
      free[0] = total[0] - BigInt([...held.values()].reduce((sum, bytes) => sum + bytes, 0))
      return 0
    },
    cuMemAlloc_v2: (pointer: BigUint64Array, bytes: bigint) => {
      if ([...held.values()].reduce((sum, n) => sum + n, Number(bytes)) > CAPACITY) return 2
      pointer[0] = next
      held.set(next, Number(bytes))
      next += BigInt(CAPACITY)
      return 0
    },
    cuMemFree_v2: (pointer: bigint) => (held.delete(pointer) ? 0 : 1),
  }
  const functions = new Proxy({}, { get: (_, name) => special[String(name)] ?? (() => 0) })
  const none = { driver: functions, nvrtc: functions, cublasLt: functions } as unknown as Libraries
  return { libraries: { ...none, addressOf: () => 0n, viewOf: (_, bytes) => new ArrayBuffer(bytes) }, held }
}

function openSession(): { session: CudaSession; held: Map<bigint, number> } {
  const { libraries, held } = countingLibraries()
  return { session: new CudaSession(Device.open(libraries, 0), defaultCudaOptions), held }
}

test('working memory that cannot grow leaves no program with the address of the old one', () => {
  const { session, held } = openSession()
  session.arena(2 ** 20)
  const before = session.generation
  expect(() => session.arena(2 * CAPACITY)).toThrow(CudaOutOfMemoryError)
  expect(session.generation).toBeGreaterThan(before)
  const address = session.arena(2 ** 19)
  expect(held.get(address)).toBe(2 ** 19)
})

test('what does not fit is refused with the sizes and what to change', () => {
  const { session } = openSession()
  expect(() => session.arena(3 * CAPACITY)).toThrow(
    /the working memory of the programs needs 3\.00 GiB, 0\.\d\d GiB of 1\.00 GiB are free; use a smaller batch .*checkpointing/,
  )
})

test('a session gives all of its memory back, and a program says what is not bound', async () => {
  const { session, held } = openSession()
  await session.bind('w', { type: f32(4), data: new Float32Array(4) })
  const g = new Graph('view')
  g.output('y', reshape(g.state('missing', i32(4)), [2, 2]))
  g.output('x', g.input('x', i32(1)))
  const exe = await session.compile(g.build())
  await expect(exe.run({ x: Int32Array.of(1) })).rejects.toThrow("state 'missing' i32[4] is not bound")
  await session.dispose()
  expect(held.size).toBe(0)
})
