/** Letters of other scripts that look like Latin ones and are used to get past filters. */
const lookalikes: Readonly<Record<string, string>> = {
  а: 'a', в: 'b', е: 'e', ё: 'e', з: '3', и: 'n', і: 'i', ї: 'i', ј: 'j', к: 'k', м: 'm', н: 'h', о: 'o', р: 'p',
  с: 'c', ѕ: 's', т: 't', у: 'y', х: 'x', ԁ: 'd', ԛ: 'q', ԝ: 'w', һ: 'h',
  α: 'a', β: 'b', ε: 'e', ι: 'i', κ: 'k', ν: 'v', ο: 'o', ρ: 'p', τ: 't', υ: 'u', χ: 'x', ω: 'w', η: 'n',
  ı: 'i', ł: 'l', ø: 'o', đ: 'd', ß: 'ss', æ: 'ae', œ: 'oe', ɑ: 'a', ɡ: 'g', ⅼ: 'l',
} // prettier-ignore

const punctuation: Readonly<Record<string, string>> = {
  '‘': "'", '’': "'", 'ʼ': "'", '`': "'", '´': "'", '“': '"', '”': '"', '„': '"', '«': '"', '»': '"',
  '–': ' - ', '—': ' - ', '…': '.', '。': '.', '！': '!', '？': '?', '，': ',',
} // prettier-ignore

const combining = /\p{M}/u
const invisible = /[\p{Cf}\p{Cc}\u115f\u1160\u3164\ufe00-\ufe0f]/u

/** Lower-case Latin text without accents, and for each of its characters the place it came from. */
export interface FoldedText {
  readonly text: string
  /** origin[i] is the index in the original of character i; origin[length] is the original's length. */
  readonly origin: readonly number[]
}

/**
 * Undoes what hides a word from a reader of plain letters: full-width and mathematical alphabets (Unicode NFKD), accents,
 * look-alikes of other scripts (only in a word that has Latin letters), invisible characters. Emoji become the words given.
 */
export function foldText(text: string, emoji: ReadonlyMap<string, string> = new Map()): FoldedText {
  const mixed = /[a-z]/i.test(text.normalize('NFKD'))
  let folded = ''
  const origin: number[] = []
  let index = 0
  for (const character of text) {
    const piece = foldCharacter(character, mixed, emoji)
    for (let i = 0; i < piece.length; i += 1) origin.push(index)
    folded += piece
    index += character.length
  }
  origin.push(text.length)
  return { text: folded, origin }
}

function foldCharacter(character: string, mixed: boolean, emoji: ReadonlyMap<string, string>): string {
  const word = emoji.get(character)
  if (word !== undefined) return ` ${word} `
  if (character === '\n' || character === '\r') return '\n'
  if (character === '\t') return ' '
  if (invisible.test(character)) return ''
  let piece = ''
  for (const part of character.normalize('NFKD').toLowerCase()) {
    if (combining.test(part)) continue
    piece += punctuation[part] ?? (mixed ? (lookalikes[part] ?? part) : part)
  }
  return piece
}
