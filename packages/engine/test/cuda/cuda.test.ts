import { describe, expect, test } from 'vitest'
import { cudaBackend, probeCuda } from '../../src/backends/cuda/backend.js'
import { adapterChecks } from './adapter-checks.js'
import { opChecks } from './checks.js'
import { parityChecks } from './parity.js'
import { stateSetCheck } from './state-sets.js'

const probe = await probeCuda()

if (probe.available) {
  describe(`cuda on ${probe.device.name}`, () => {
    test.each([...opChecks(), ...adapterChecks(), stateSetCheck])('$title', (check) =>
      check.run(cudaBackend({ compute: 'program' })),
    )
    test.each(parityChecks((o) => cudaBackend(o)))('$title', (check) => check.run(cudaBackend({ nf4: 'packed' })))
  })
} else {
  console.warn(`The CUDA backend's own tests did not run: ${probe.reason}`)
  test('where CUDA is missing, the reason is one line', () => {
    expect(probe.reason.split('\n')).toHaveLength(1)
  })
}
