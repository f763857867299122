import { readFileSync } from 'node:fs'
import { availableParallelism, platform } from 'node:os'

/**
 * Physical cores that this process may use: matrix products gain nothing from a second thread on the same core.
 * Linux lists the topology; elsewhere every processor counts.
 */
export function physicalCores(): number {
  const usable = availableParallelism()
  if (platform() !== 'linux') return usable
  const cores = coresOf(readCpuInfo())
  return cores > 0 ? Math.min(cores, usable) : usable
}

function readCpuInfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    // A container may hide it; the caller then counts processors.
    return ''
  }
}

/** Distinct (package, core) pairs in the text of /proc/cpuinfo; 0 where it names none, as on ARM. */
export function coresOf(cpuinfo: string): number {
  const pairs = cpuinfo.split('\n\n').map((block) => {
    const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(\\d+)`, 'm').exec(block)?.[1]
    const core = field('core id')
    return core === undefined ? null : `${field('physical id') ?? 0}:${core}`
  })
  return new Set(pairs.filter((pair) => pair !== null)).size
}
