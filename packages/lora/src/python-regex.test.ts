import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fullMatch, suffixMatch } from './python-regex.js'

type Row = [pattern: string, text: string, expected: boolean]
const url = new URL('../../../fixtures/lora/configs.json', import.meta.url)
const goldens = JSON.parse(readFileSync(url, 'utf8')) as { fullmatch: Row[]; patterns: Row[] }

describe('regular expressions of Python', () => {
  it.each(goldens.fullmatch)('fullmatch(%j, %j) is %s', (pattern, text, expected) => {
    expect(fullMatch(pattern, 'targetModules')(text)).toBe(expected)
  })

  it.each(goldens.patterns)('the rank pattern %j on %j is %s', (pattern, name, expected) => {
    expect(suffixMatch(pattern, 'rankPattern')(name)).toBe(expected)
  })

  it.each([
    ['(?>a)b', 'the group (?>a'],
    ['(a)(?(1)b|c)', 'the group (?(1'],
    ['(?i:a)', 'the group (?i:'],
    ['(?x) a', 'the flag (?x'],
    ['\\pL', 'the escape \\p'],
    ['[ab', 'a character class without its "]"'],
    ['a(', 'is not a valid regular expression'],
    ['a*+', 'is not a valid regular expression'],
    ['a\\', 'the escape \\'],
  ])('%j is refused because of %j', (pattern, reason) => {
    expect(() => fullMatch(pattern, 'excludeModules')).toThrow(
      expect.objectContaining({
        code: 'MIRASTRAL_LORA_CONFIG',
        exitCode: 2,
        message: expect.stringContaining(reason) as string,
      }),
    )
    expect(() => fullMatch(pattern, 'excludeModules')).toThrow(/^excludeModules: /)
  })
})
