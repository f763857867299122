import { describe, expect, it } from 'vitest'
import { repetitionOf, samenessOf } from './repetition.js'

describe('repetitionOf', () => {
  it('counts runs of four words that come twice in a reply', () => {
    // Words: a b c d a b c d, so five runs, of which abcd comes twice.
    expect(repetitionOf('A b, c d. a B c d!', [])).toEqual({ runs: 5, repeated: 1, carriedOver: 0, comparable: 0 })
  })

  it('counts runs that any earlier reply had', () => {
    const earlier = ['one two three four', 'nothing alike here at all']
    expect(repetitionOf('zero one two three four five', earlier)).toEqual({
      runs: 3,
      repeated: 0,
      carriedOver: 1,
      comparable: 3,
    })
  })

  it('finds nothing in fewer than four words', () => {
    expect(repetitionOf('I hear you', ['I hear you'])).toEqual({ runs: 0, repeated: 0, carriedOver: 0, comparable: 0 })
  })
})

describe('samenessOf', () => {
  it('measures the commonest opening and replies given more than once', () => {
    const replies = ['It sounds like a lot.', 'It sounds like rain.', 'I am here.', 'I am HERE', '', 'What now?']
    expect(samenessOf(replies)).toEqual({ commonOpening: 2 / 5, identical: 2 / 5 })
  })

  it('has no figure where nothing was said', () => {
    expect(samenessOf(['', '...'])).toEqual({ commonOpening: null, identical: null })
  })
})
