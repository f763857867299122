import type { Turn } from '@mirastral/data'
import type { Language } from './language.js'
import { SentenceMatcher } from './pattern/match.js'
import { readDocument } from './text/document.js'
import type { InputFinding } from './types.js'

/** Whether one of the named cues occurs in the text. */
export function hasCue(text: string, cue: string, language: Language): boolean {
  const document = readDocument(text, language.spelling, language.emoji)
  return document.sentences.some((s) => new SentenceMatcher(s, language.vocabulary, new Set()).findName(cue).length > 0)
}

/** The last messages of the person, the newest first. */
export function personTexts(turns: readonly Turn[], most: number): string[] {
  const texts = turns.flatMap((turn) => (turn.role === 'user' ? [turn.content] : []))
  return texts.slice(-most).reverse()
}

/**
 * "Yes" to the question "are you thinking of killing yourself?" is a statement, though none of its words says so: a finding if
 * the assistant's last turn asked for danger and the person's answer affirms it.
 */
export function affirmedDanger(turns: readonly Turn[], language: Language): InputFinding | undefined {
  const [answer, question] = [turns.at(-1), turns.at(-2)]
  if (answer?.role !== 'user' || question?.role !== 'assistant') return undefined
  if (answer.content.length > 200 || !hasCue(question.content, 'ASKS_ABOUT_DANGER', language)) return undefined
  if (!hasCue(answer.content, 'AFFIRMS', language) || hasCue(answer.content, 'DENIES', language)) return undefined
  const evidence = { start: 0, end: answer.content.length }
  return { category: 'suicide', severity: 'high', reading: 'plain', evidence, source: 'conversation', score: 1 }
}
