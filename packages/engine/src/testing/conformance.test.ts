import { describe, test } from 'vitest'
import { ortBackend } from '../backends/ort/backend.js'
import { allSamples, checkBackend, checkDefinition } from './conformance.js'

const samples = allSamples()

describe('op definitions', () => {
  test.each(samples)('$title: types verify and the derivative equals central differences', (sample) => {
    checkDefinition(sample)
  })
})

describe('ort equals the float64 reference', () => {
  const backend = ortBackend({ threads: 1, worker: false })
  test.each(samples)('$title', async (sample) => {
    await checkBackend(backend, sample)
  })
})

describe('ort with dense nf4 weights equals the float64 reference', () => {
  const backend = ortBackend({ threads: 1, worker: false, nf4: 'dense' })
  test.each(samples.filter((s) => s.title.includes('nf4')))('$title', async (sample) => {
    await checkBackend(backend, sample)
  })
})
