import { editDistance } from './edit-distance.js'
import { letterSymbols } from './scan.js'

/** What a language knows about the spelling of its words. */
export interface Spelling {
  /** Contractions, slang and frequent misspellings, and the words that they stand for. */
  readonly expansions: ReadonlyMap<string, readonly string[]>
  /** Words that misspelled ones may be turned into; the most important first. */
  readonly targets: readonly string[]
  /** Targets that may differ by two letters, if they are long. */
  readonly wideTargets: ReadonlySet<string>
  /** Words that are right as they are. */
  readonly known: ReadonlySet<string>
  /** Words that glued text ("wanttodie") may be cut into. */
  readonly glue: ReadonlySet<string>
}

/** Which letters a digit or symbol can stand for. */
const standsFor: Readonly<Record<string, string>> = {
  '0': 'o',
  '1': 'il',
  '2': 'z',
  '3': 'e',
  '4': 'a',
  '5': 's',
  '6': 'g',
  '7': 't',
  '8': 'b',
  '9': 'g',
  '@': 'a',
  $: 's',
  '!': 'il',
  '|': 'il',
  '+': 't',
  '€': 'e',
  '*': 'abcdefghijklmnopqrstuvwxyz',
  '#': 'abcdefghijklmnopqrstuvwxyz',
}

const longestRepaired = 40

/** Turns one written word into the words that were probably meant; ordinary words come back as they are. */
export function repairWord(written: string, spelling: Spelling): readonly string[] {
  const word = written.replaceAll(/^'+|'+$/g, '')
  const plain = word.replaceAll("'", '')
  const expanded = spelling.expansions.get(word) ?? spelling.expansions.get(plain) ?? contraction(word)
  if (expanded) return expanded.flatMap((w) => (w === word ? [w] : repairWord(w, spelling)))
  if (spelling.known.has(plain) || /^\d+$/.test(plain) || plain.length > longestRepaired) return [plain]
  const decoded = decodeSymbols(plain, spelling)
  if (decoded) return decoded
  if (!/^\p{L}+$/u.test(plain)) return splitAtSymbols(plain)
  return unstretch(plain, spelling) ?? correctTypo(plain, spelling) ?? cutGlued(plain, spelling) ?? [plain]
}

/** "don't" is "do not", "she's" is "she is"; a possessive keeps its owner only. */
function contraction(word: string): readonly string[] | undefined {
  const match = /^(\p{L}+?)(n't|'m|'re|'ve|'ll|'d|'s|in')$/u.exec(word)
  if (!match) return undefined
  const [, stem = '', ending] = match
  switch (ending) {
    case "n't":
      return [stem === 'ca' ? 'can' : stem === 'wo' ? 'will' : stem === 'sha' ? 'shall' : stem, 'not']
    case "'m":
      return [stem, 'am']
    case "'re":
      return [stem, 'are']
    case "'ve":
      return [stem, 'have']
    case "'ll":
      return [stem, 'will']
    case "'d":
      return [stem, 'would']
    case "in'":
      return [`${stem}ing`]
    default:
      return /^(he|she|it|that|there|what|who|here|where|how|everyone|everybody|someone|nobody)$/.test(stem)
        ? [stem, 'is']
        : [stem]
  }
}

function splitAtSymbols(word: string): string[] {
  return word.split(new RegExp(`[${letterSymbols}']+`, 'u')).filter((part) => part !== '')
}

function decodeSymbols(word: string, spelling: Spelling): readonly string[] | undefined {
  if (!/\p{L}/u.test(word) || !/[\d@$!*|+#€]/.test(word)) return undefined
  const fits = (target: string): boolean =>
    target.length === word.length &&
    [...word].every((c, i) => c === target[i] || (standsFor[c] ?? '').includes(target[i] ?? '?'))
  const target = spelling.targets.find(fits)
  if (target) return [target]
  const letters = [...word].map((c) => standsFor[c]?.[0] ?? c).join('')
  if (word.includes('*') || word.includes('#')) return undefined
  const expanded = spelling.expansions.get(letters)
  if (expanded) return expanded
  if (spelling.known.has(letters)) return [letters]
  return correctTypo(letters, spelling) ?? cutGlued(letters, spelling)
}

/** "sooooo", "killl": a letter three times or more is once or twice that letter. */
function unstretch(word: string, spelling: Spelling): readonly string[] | undefined {
  if (!/(\p{L})\1\1/u.test(word)) return undefined
  for (const times of ['$1$1', '$1']) {
    const shorter = word.replaceAll(/(\p{L})\1{2,}/gu, times)
    const expanded = spelling.expansions.get(shorter)
    if (expanded) return expanded
    if (spelling.known.has(shorter)) return [shorter]
  }
  const once = word.replaceAll(/(\p{L})\1+/gu, '$1')
  return spelling.known.has(once) ? [once] : undefined
}

function correctTypo(word: string, spelling: Spelling): readonly string[] | undefined {
  if (word.length < 4) return undefined
  let best: string | undefined
  let bestDistance = 3
  for (const target of spelling.targets) {
    if (target.length < 4 || !sameStart(word, target)) continue
    const limit = Math.min(word.length, target.length) >= 7 && spelling.wideTargets.has(target) ? 2 : 1
    const distance = editDistance(word, target, limit)
    if (distance <= limit && distance < bestDistance) {
      best = target
      bestDistance = distance
    }
  }
  if (best === undefined) return undefined
  return spelling.expansions.get(best) ?? [best]
}

/** People rarely mistype the first letter; a swap of the first two counts as the same start. */
function sameStart(a: string, b: string): boolean {
  return a.slice(0, 1) === b.slice(0, 1) || (a.slice(0, 1) === b.slice(1, 2) && a.slice(1, 2) === b.slice(0, 1))
}

/** Cuts "wanttodie" into known words, as few as possible, if the whole of it can be cut and a content word is among them. */
export function cutGlued(word: string, spelling: Spelling): readonly string[] | undefined {
  if (word.length < 6) return undefined
  const best: (readonly string[] | undefined)[] = [[]]
  for (let end = 1; end <= word.length; end += 1) {
    for (let start = Math.max(0, end - 12); start < end; start += 1) {
      const before = best[start]
      const part = word.slice(start, end)
      if (!before || !spelling.glue.has(part)) continue
      const known = best[end]
      if (!known || before.length + 1 < known.length) best[end] = [...before, part]
    }
  }
  const words = best[word.length]
  if (!words || words.length < 2 || !words.some((w) => w.length >= 3 && spelling.wideTargets.has(w))) return undefined
  return words.flatMap((w) => spelling.expansions.get(w) ?? [w])
}
