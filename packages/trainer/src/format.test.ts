import { describe, expect, it } from 'vitest'
import { formatBytes, formatClock, formatCount, formatDuration, formatNumber } from './format.js'

describe('formatting', () => {
  it('writes durations with the two units that matter', () => {
    expect([0, 45, 59.6, 725, 3600, 12_000, Infinity].map(formatDuration)).toEqual([
      '0 s',
      '45 s',
      '1 min 00 s',
      '12 min 05 s',
      '1 h 00 min',
      '3 h 20 min',
      '-',
    ])
    expect([5, 485, 4085].map(formatClock)).toEqual(['00:05', '08:05', '1:08:05'])
  })

  it('writes numbers with four significant digits', () => {
    expect([2.34567, 0, 1.9e-5, 2e-5, 123_456, 1e9, NaN, null].map(formatNumber)).toEqual([
      '2.346',
      '0',
      '1.9e-5',
      '2e-5',
      '123,456',
      '1e9',
      '-',
      '-',
    ])
    expect(formatCount(1234.6)).toBe('1,235')
    expect([0, 999, 1500, 2_345_678_901].map(formatBytes)).toEqual(['0 B', '999 B', '1.5 kB', '2.35 GB'])
  })
})
