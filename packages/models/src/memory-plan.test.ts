import { describe, expect, it } from 'vitest'
import { estimate } from './estimate.js'
import { availableMemory, describeEstimate, planMemory } from './memory-plan.js'
import { parseModelConfig } from './registry.js'

const config = parseModelConfig({ model_type: 'mistral' })
const bytesOf = (nf4Storage: 'packed' | 'dense', checkpointing: boolean): number =>
  estimate(config, { nf4Storage, checkpointing }).bytes.total / 0.9

describe('planMemory', () => {
  it('takes the fastest way that fits', () => {
    const plan = (availableBytes: number) => {
      const { nf4Storage, checkpointing, estimate: result } = planMemory(config, { availableBytes })
      return [nf4Storage, checkpointing, result.fits]
    }
    expect(plan(bytesOf('dense', false) * 1.001)).toEqual(['dense', 'none', true])
    expect(plan(bytesOf('packed', false) * 1.001)).toEqual(['packed', 'none', true])
    expect(plan(bytesOf('packed', true) * 1.001)).toEqual(['packed', 'full', true])
    expect(plan(1e9)).toEqual(['packed', 'full', false])
  })

  it('keeps what was chosen', () => {
    const plan = planMemory(config, { availableBytes: 1e12, checkpointing: 'full', nf4Storage: 'packed' })
    expect(plan).toMatchObject({ checkpointing: 'full', nf4Storage: 'packed' })
    expect(planMemory(config, { availableBytes: 1e12, checkpointing: 'full' }).nf4Storage).toBe('dense')
  })

  it('asks the machine where nothing else is said', () => {
    expect(availableMemory()).toBeGreaterThan(1e6)
    expect(planMemory(config).estimate.fits).not.toBeNull()
  })
})

describe('describeEstimate', () => {
  it('says what a run will take in a few lines', () => {
    const lines = describeEstimate(estimate(config, { availableBytes: 1, matmulRate: 6e11, timeBudget: 3060 }))
    expect(lines[0]).toBe('parameters: 7.24 B, of which 13.6 M are trained')
    expect(lines[1]).toMatch(/^memory: about \d+\.\d+ GB, more than there is \(weights 4\.98 GB, activations/)
    expect(lines[2]).toMatch(/^time: about \d+ s per step$/)
    expect(lines[3]).toMatch(/^the time budget holds about \d+ steps$/)
    expect(describeEstimate(estimate(config))).toHaveLength(2)
  })
})
