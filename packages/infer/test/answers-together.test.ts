import { cudaBackend, ortBackend, probeCuda } from '@mirastral/engine'
import { describe, expect, it } from 'vitest'
import { answerTogether, goldenAnswers } from './support/answers-together.js'

const probe = await probeCuda()
const backends = [
  { device: 'CPU', backend: ortBackend({ threads: 2, worker: false }) },
  ...(probe.available ? [{ device: probe.device.name, backend: cudaBackend({ compute: 'program' }) }] : []),
]

describe.each(backends)('several answers at once on the $device', ({ backend }) => {
  it.each(Object.keys(goldenAnswers()))('%s: those of Transformers and PEFT, token for token', async (name) => {
    const { got, expected } = await answerTogether(backend, name)
    expect(got).toEqual(expected)
  })
})
