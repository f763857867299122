import { markWords } from './classifier/tokens.js'
import type { MarkedWord } from './classifier/tokens.js'
import { viewSentences } from './context/view.js'
import type { Language } from './language.js'
import { applyRules } from './rules.js'
import { readDocument } from './text/document.js'

/** The words of a text, sentence by sentence, as the classifier sees them. */
export function markText(text: string, language: Language, direction: 'input' | 'output'): MarkedWord[][] {
  const views = viewSentences(readDocument(text, language.spelling, language.emoji), language)
  const rules = direction === 'input' ? language.inputRules : language.outputRules
  return markWords(views, language, applyRules<string>(views, rules))
}
