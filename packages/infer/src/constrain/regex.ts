import { complementOf, jsonCharacter, unionOf } from './code-points.js'
import type { CodePoints } from './code-points.js'
import { choice, empty, repeat, sequence } from './grammar.js'
import type { Grammar } from './grammar.js'

/** A part of a pattern that has no finite automaton here; the message names it. */
export class UnsupportedPattern extends Error {
  override readonly name = 'UnsupportedPattern'
}

/** Longer patterns are not written by people. */
const maxPatternLength = 2000
const maxRepetitions = 5000

const digits: CodePoints = [[0x30, 0x39]]
const wordCharacters: CodePoints = [[0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]] // prettier-ignore
const whiteSpace = unionOf(
  [[0x09, 0x0d], [0x20, 0x20], [0xa0, 0xa0], [0x1680, 0x1680], [0x2000, 0x200a]], // prettier-ignore
  [[0x2028, 0x2029], [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfeff, 0xfeff]], // prettier-ignore
)
const lineEnds: CodePoints = [[0x0a, 0x0a], [0x0d, 0x0d], [0x2028, 0x2029]] // prettier-ignore
const anyCharacter = complementOf([])

const classEscapes: Readonly<Record<string, CodePoints>> = {
  d: digits,
  D: complementOf(digits),
  w: wordCharacters,
  W: complementOf(wordCharacters),
  s: whiteSpace,
  S: complementOf(whiteSpace),
}

const controlEscapes: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 }

/**
 * The strings that a `pattern` of JSON Schema (an ECMA-262 regular expression, unanchored) matches, as they are written
 * between the quotes of a JSON string. `share` turns a grammar that is used often into a rule. Throws
 * `UnsupportedPattern` for look-around, back references, word boundaries, Unicode properties and inner anchors.
 */
export function patternGrammar(pattern: string, share: (body: Grammar) => Grammar): Grammar {
  if (pattern.length > maxPatternLength) throw new UnsupportedPattern(`more than ${maxPatternLength} characters`)
  return new PatternParser(pattern, share).parse()
}

class PatternParser {
  readonly #characters: readonly string[]
  readonly #share: (body: Grammar) => Grammar
  #at = 0

  constructor(pattern: string, share: (body: Grammar) => Grammar) {
    this.#characters = Array.from(pattern)
    this.#share = share
  }

  parse(): Grammar {
    const branches: Grammar[] = []
    do branches.push(this.#anchoredBranch())
    while (this.#take('|'))
    if (this.#at < this.#characters.length) throw new UnsupportedPattern(`"${this.#peek()}" at ${this.#at}`)
    return choice(...branches)
  }

  /** An alternative at the top, where `^` and `$` may stand; without them anything may come before or after. */
  #anchoredBranch(): Grammar {
    const anything = (): Grammar => repeat(this.#set(anyCharacter), 0, Infinity)
    const before = this.#take('^') ? empty : anything()
    const body = this.#branch()
    const after = this.#take('$') ? empty : anything()
    return sequence(before, body, after)
  }

  #alternatives(): Grammar {
    const branches: Grammar[] = []
    do branches.push(this.#branch())
    while (this.#take('|'))
    return choice(...branches)
  }

  #branch(): Grammar {
    const parts: Grammar[] = []
    for (let c = this.#peek(); c !== undefined && !'|)$'.includes(c); c = this.#peek()) {
      parts.push(this.#quantified(this.#atom()))
    }
    return sequence(...parts)
  }

  #quantified(atom: Grammar): Grammar {
    const [min, max] = this.#quantifier()
    if (min > max || (max !== Infinity && max > maxRepetitions) || min > maxRepetitions) {
      throw new UnsupportedPattern(`a quantifier of more than ${maxRepetitions} or in the wrong order`)
    }
    this.#take('?')
    return min === 1 && max === 1 ? atom : repeat(this.#share(atom), min, max)
  }

  #quantifier(): [min: number, max: number] {
    if (this.#take('*')) return [0, Infinity]
    if (this.#take('+')) return [1, Infinity]
    if (this.#take('?')) return [0, 1]
    const braces = /^\{(\d+)(?:(,)(\d*))?\}/.exec(this.#characters.slice(this.#at, this.#at + 16).join(''))
    if (braces === null) return [1, 1]
    this.#at += braces[0].length
    const min = Number(braces[1])
    if (braces[2] === undefined) return [min, min]
    return [min, braces[3] === '' ? Infinity : Number(braces[3])]
  }

  #atom(): Grammar {
    const character = this.#next()
    switch (character) {
      case '(':
        return this.#group()
      case '[':
        return this.#set(this.#class())
      case '.':
        return this.#set(complementOf(lineEnds))
      case '\\':
        return this.#set(this.#escape())
      case '^':
        throw new UnsupportedPattern('"^" that is not at the beginning')
      case '*':
      case '+':
      case '?':
        throw new UnsupportedPattern(`"${character}" without anything to repeat`)
      default:
        return this.#set(single(character))
    }
  }

  #group(): Grammar {
    if (this.#take('?')) {
      if (!this.#take(':')) {
        const named = this.#take('<') && /[\w$]/.test(this.#peek() ?? '')
        if (!named) throw new UnsupportedPattern('look-around')
        while (this.#next() !== '>');
      }
    }
    const inner = this.#alternatives()
    if (!this.#take(')')) throw new UnsupportedPattern('"$" inside a group, or a group that is not closed')
    return inner
  }

  #class(): CodePoints {
    const negated = this.#take('^')
    const parts: CodePoints[] = []
    while (!this.#take(']')) {
      const from = this.#classAtom()
      const isRange = this.#peek() === '-' && this.#characters[this.#at + 1] !== ']'
      if (!isRange || !isSingle(from)) {
        parts.push(from)
        continue
      }
      this.#next()
      const to = this.#classAtom()
      if (!isSingle(to) || to[0][0] < from[0][0]) throw new UnsupportedPattern('a range in the wrong order')
      parts.push([[from[0][0], to[0][0]]])
    }
    const set = unionOf(...parts)
    return negated ? complementOf(set) : set
  }

  #classAtom(): CodePoints {
    const character = this.#next()
    if (character !== '\\') return single(character)
    return this.#take('b') ? single('\b') : this.#escape()
  }

  #escape(): CodePoints {
    const character = this.#next()
    const set = classEscapes[character]
    if (set !== undefined) return set
    const control = controlEscapes[character]
    if (control !== undefined) return [[control, control]]
    if (character === 'x') return this.#hexEscape(/^[0-9a-fA-F]{2}/)
    if (character === 'u') return this.#hexEscape(/^(?:[0-9a-fA-F]{4}|\{[0-9a-fA-F]{1,6}\})/)
    if (/[a-zA-Z0-9]/.test(character)) throw new UnsupportedPattern(`"\\${character}"`)
    return single(character)
  }

  #hexEscape(form: RegExp): CodePoints {
    const found = form.exec(this.#characters.slice(this.#at, this.#at + 8).join(''))
    const code = found === null ? NaN : Number.parseInt(found[0].replace(/[{}]/g, ''), 16)
    if (found === null || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      throw new UnsupportedPattern('an escape that is no character')
    }
    this.#at += found[0].length
    return [[code, code]]
  }

  #set(set: CodePoints): Grammar {
    return this.#share(jsonCharacter(set))
  }

  #peek(): string | undefined {
    return this.#characters[this.#at]
  }

  #next(): string {
    const character = this.#peek()
    if (character === undefined) throw new UnsupportedPattern('an end in the middle')
    this.#at++
    return character
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false
    this.#at++
    return true
  }
}

function single(character: string): CodePoints {
  const code = character.codePointAt(0) ?? 0
  return [[code, code]]
}

const isSingle = (set: CodePoints): boolean => set.length === 1 && set[0][0] === set[0][1]
