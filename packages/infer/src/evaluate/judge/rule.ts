import type { Sentence } from '../text/sentences.js'

/** A thing that a sentence can say, recognised by its words. Regular expressions see the form of `sentencesOf`. */
export interface TextRule {
  readonly id: string
  readonly says: RegExp
  /** The rule does not hold when the words before what it found match this. */
  readonly unlessBefore?: RegExp
  /** The rule does not hold when the sentence matches this. */
  readonly unless?: RegExp
  readonly onlyQuestions?: boolean
}

function holds(rule: TextRule, { text, isQuestion }: Sentence): boolean {
  if (rule.onlyQuestions === true && !isQuestion) return false
  if (rule.unless?.test(text) === true) return false
  for (const match of text.matchAll(new RegExp(rule.says, 'gu')))
    if (rule.unlessBefore?.test(text.slice(0, match.index)) !== true) return true
  return false
}

/** The ids of the rules that hold for at least one sentence. */
export function rulesThatHold(rules: readonly TextRule[], sentences: readonly Sentence[]): string[] {
  return rules.filter((rule) => sentences.some((sentence) => holds(rule, sentence))).map((rule) => rule.id)
}

/** A regular expression of parts; `{name}` in a part stands for an alternative of words given in `words`. */
export function pattern(source: string, words: Readonly<Record<string, string>> = {}): RegExp {
  const filled = source.replace(/\{([a-z]+)\}/g, (whole, name: string) => {
    const alternatives = words[name]
    return alternatives === undefined ? whole : `(?:${alternatives})`
  })
  return new RegExp(filled, 'u')
}
