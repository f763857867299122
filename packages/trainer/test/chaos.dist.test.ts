import { describe, expect, it } from 'vitest'
import { chaos } from '../../../bench/chaos.js'

describe('a process that is killed at random moments', () => {
  it('and started again until it is finished leaves what an uninterrupted one leaves', async () => {
    const counts = await chaos({ kills: 6, seed: 3, merge: true }, () => undefined)
    expect([...counts.values()].reduce((sum, n) => sum + n, 0)).toBeGreaterThanOrEqual(6)
  })
})
