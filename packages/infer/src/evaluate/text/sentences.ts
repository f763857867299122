/** A sentence in the form that the rules match: lower case, straight quotes, single spaces, no markup. */
export interface Sentence {
  readonly text: string
  readonly isQuestion: boolean
  readonly isListItem: boolean
}

const abbreviation = /(?:^|\s)(?:dr|mr|mrs|ms|st|vs|etc|e\.g|i\.e|a\.m|p\.m)$/

/** Lower case, compatibility forms and typographic quotes made plain, invisible characters and emphasis marks removed. */
export function plainText(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\u2018\u2019\u02bc]/g, "'")
    .replace(/[\u201c\u201d]/g, '"')
    .replace(/[\u00ad\u200b-\u200f\u2060\ufeff]/g, '')
    .replace(/[*_`#>]+/g, '')
}

/** The sentences of a text. A line ends a sentence, and the mark of a list item is not part of it. */
export function sentencesOf(text: string): Sentence[] {
  return plainText(text)
    .split(/\n+/)
    .flatMap((line) => {
      const item = /^\s*(?:[-•+]|\d{1,2}[.)])\s+/.exec(line)
      return splitLine(item === null ? line : line.slice(item[0].length)).map((sentence) => ({
        text: sentence,
        isQuestion: /\?["')\]]*$|\?!*$/.test(sentence),
        isListItem: item !== null,
      }))
    })
}

function splitLine(line: string): string[] {
  const sentences: string[] = []
  let start = 0
  for (const match of line.matchAll(/[.!?…]+["')\]]*(?=\s|$)/g)) {
    if (match[0] === '.' && abbreviation.test(line.slice(start, match.index))) continue
    sentences.push(line.slice(start, match.index + match[0].length))
    start = match.index + match[0].length
  }
  sentences.push(line.slice(start))
  return sentences.map((s) => s.trim().replace(/\s+/g, ' ')).filter((s) => /[\p{L}\p{N}]/u.test(s))
}

/** The words of a text in lower case; an apostrophe inside a word belongs to it. */
export function wordsOf(text: string): string[] {
  return plainText(text).match(/[\p{L}\p{N}]+(?:'\p{L}+)*/gu) ?? []
}
