import { describe, expect, it } from 'vitest'
import { followLoss, initialSpikeState } from './watchdog.js'

const spikesOf = (losses: readonly number[]): number[] => {
  let state = initialSpikeState
  const found: number[] = []
  losses.forEach((loss, i) => {
    const followed = followLoss(state, loss)
    state = followed.state
    if (followed.spike) found.push(i)
  })
  return found
}

const falling = (steps: number): number[] =>
  Array.from({ length: steps }, (_, i) => 3 * Math.exp(-i / 100) + 0.2 * Math.sin(i * 7))

describe('the loss watchdog', () => {
  it('is silent on a falling, noisy loss', () => {
    expect(spikesOf(falling(300))).toEqual([])
  })

  it('reports a spike, and each step of a loss that stays high', () => {
    const losses = falling(100)
    losses[60] = 12
    losses[61] = 12
    expect(spikesOf(losses)).toEqual([60, 61])
  })

  it('is silent in the first steps, and on losses that are not finite', () => {
    expect(spikesOf([1, 1, 1, 50, 1, 1])).toEqual([])
    expect(spikesOf([...falling(50), NaN, Infinity, ...falling(50)])).toEqual([])
  })
})
