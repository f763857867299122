import { expect, test } from 'vitest'
import { coresOf } from './cores.js'

const processor = (physical: number, core: number) => `processor: 0\nphysical id\t: ${physical}\ncore id\t\t: ${core}`

test('two threads of a core count once, equal cores of two sockets count twice', () => {
  expect(coresOf([processor(0, 0), processor(0, 0), processor(0, 1)].join('\n\n'))).toBe(2)
  expect(coresOf([processor(0, 0), processor(1, 0)].join('\n\n'))).toBe(2)
})

test('a listing without topology gives no answer', () => {
  expect(coresOf('processor: 0\nBogoMIPS: 50\n\nprocessor: 1')).toBe(0)
})
