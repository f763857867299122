import { describe, expect, it } from 'vitest'
import { PythonFloat, pythonFloat, pythonJson } from './python-json.js'

describe('JSON as Python writes it', () => {
  it.each([
    [0, '0.0'],
    [-0, '-0.0'],
    [16, '16.0'],
    [0.05, '0.05'],
    [1e-5, '1e-05'],
    [0.0001, '0.0001'],
    [1.5e-7, '1.5e-07'],
    [123456789012345680, '1.2345678901234568e+17'],
    [1e15, '1000000000000000.0'],
    [1e16, '1e+16'],
    [NaN, 'NaN'],
    [-Infinity, '-Infinity'],
  ])('the float %d is %s', (value, text) => {
    expect(pythonFloat(value)).toBe(text)
  })

  it('sorts keys by code point, indents by two and escapes what is not ASCII', () => {
    const value = { b: [1, 'é\u2028'], '\u{1f600}': {}, '\uffff': [], B: { x: new PythonFloat(2), a: null } }
    expect(pythonJson(value)).toBe(
      [
        '{',
        '  "B": {',
        '    "a": null,',
        '    "x": 2.0',
        '  },',
        '  "b": [',
        '    1,',
        '    "\\u00e9\\u2028"',
        '  ],',
        '  "\\uffff": [],',
        '  "\\ud83d\\ude00": {}',
        '}',
      ].join('\n'),
    )
  })
})
