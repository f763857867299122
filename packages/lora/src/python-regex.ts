import { LoraError } from './errors.js'

/** Letters that may follow a backslash in both languages with the same meaning. */
const SHARED_ESCAPES = new Set([...'dDwWsSbBnrtfv'])

/**
 * Rewrites a pattern of Python's `re` as one of JavaScript, where the two differ: named groups, `\A` and `\Z`, `{,n}`,
 * a `]` that opens a class, comments, and leading inline flags. What JavaScript cannot express (conditionals, atomic
 * groups, possessive quantifiers, scoped or verbose flags) is refused.
 * https://docs.python.org/3/library/re.html#regular-expression-syntax
 *
 * @throws LoraError MIRASTRAL_LORA_CONFIG naming the pattern and what cannot be translated
 */
export function translatePythonRegex(pattern: string, who: string): { source: string; flags: string } {
  const refuse = (what: string): never => {
    throw new LoraError(
      'MIRASTRAL_LORA_CONFIG',
      `${who}: ${what} cannot be used in the regular expression ${JSON.stringify(pattern)}; write it without, or list module names`,
    )
  }
  let rest = pattern
  let flags = ''
  const leading = /^\(\?([aiLmsux]+)\)/.exec(rest)
  if (leading) {
    rest = rest.slice(leading[0].length)
    for (const flag of leading[1] ?? '') {
      if (flag === 'x' || flag === 'L') refuse(`the flag (?${flag})`)
      if ('ims'.includes(flag) && !flags.includes(flag)) flags += flag
    }
  }
  let out = ''
  let at = 0
  while (at < rest.length) {
    const [piece, length] = translatePiece(rest.slice(at), refuse)
    out += piece
    at += length
  }
  return { source: out, flags }
}

/** Translates what stands at the beginning of `text`; returns it and how many characters it was. */
function translatePiece(text: string, refuse: (what: string) => never): [string, number] {
  if (text.startsWith('\\')) return [translateEscape(text, refuse), 2]
  if (text.startsWith('[')) return translateClass(text, refuse)
  if (text.startsWith('(?')) return translateGroup(text, refuse)
  const openCount = /^\{,(\d+)\}/.exec(text)
  if (openCount) return [`{0,${openCount[1]}}`, openCount[0].length]
  return [text.charAt(0), 1]
}

function translateEscape(text: string, refuse: (what: string) => never): string {
  const letter = text.charAt(1)
  if (letter === 'A') return '(?<![\\s\\S])'
  if (letter === 'Z') return '(?![\\s\\S])'
  if (letter === '' || (/[A-Za-z]/.test(letter) && !SHARED_ESCAPES.has(letter))) refuse(`the escape \\${letter}`)
  return `\\${letter}`
}

/** A character class up to its closing bracket; a `]` in first place is a member in Python. */
function translateClass(text: string, refuse: (what: string) => never): [string, number] {
  let at = text.startsWith('[^') ? 2 : 1
  let out = text.slice(0, at)
  if (text.charAt(at) === ']') {
    out += '\\]'
    at += 1
  }
  while (at < text.length && text.charAt(at) !== ']') {
    const escaped = text.charAt(at) === '\\'
    out += escaped ? translateEscape(text.slice(at), refuse) : text.charAt(at)
    at += escaped ? 2 : 1
  }
  if (at >= text.length) refuse('a character class without its "]"')
  return [`${out}]`, at + 1]
}

function translateGroup(text: string, refuse: (what: string) => never): [string, number] {
  const same = /^\(\?(?::|=|!|<=|<!)/.exec(text)
  if (same) return [same[0], same[0].length]
  const named = /^\(\?P<(\w+)>/.exec(text)
  if (named) return [`(?<${named[1]}>`, named[0].length]
  const back = /^\(\?P=(\w+)\)/.exec(text)
  if (back) return [`\\k<${back[1]}>`, back[0].length]
  const comment = /^\(\?#[^)]*\)/.exec(text)
  if (comment) return ['', comment[0].length]
  return refuse(`the group ${text.slice(0, 4)}`)
}

/**
 * Compiles a pattern of Python's `re`; `wrap` puts the translated source into a larger one.
 *
 * @throws LoraError MIRASTRAL_LORA_CONFIG as {@link translatePythonRegex}, and when the pattern is not valid
 */
export function pythonRegex(pattern: string, who: string, wrap: (source: string) => string): RegExp {
  const { source, flags } = translatePythonRegex(pattern, who)
  try {
    return new RegExp(wrap(source), flags)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new LoraError(
      'MIRASTRAL_LORA_CONFIG',
      `${who}: ${JSON.stringify(pattern)} is not a valid regular expression (${reason})`,
      { cause },
    )
  }
}

/** A test with the meaning of Python's `re.fullmatch(pattern, text)`. Throws as {@link pythonRegex}. */
export function fullMatch(pattern: string, who: string): (text: string) => boolean {
  const regex = pythonRegex(pattern, who, (source) => `(?<![\\s\\S])(?:${source})(?![\\s\\S])`)
  return (text) => regex.test(text)
}

/**
 * A test with the meaning of PEFT's `re.match(rf"(.*\.)?({pattern})$", name)`, which `rank_pattern` and `alpha_pattern`
 * use (peft/utils/other.py, get_pattern_key). Throws as {@link pythonRegex}.
 */
export function suffixMatch(pattern: string, who: string): (text: string) => boolean {
  const regex = pythonRegex(pattern, who, (source) => `(?<![\\s\\S])(.*\\.)?(${source})$`)
  return (text) => regex.test(text)
}
