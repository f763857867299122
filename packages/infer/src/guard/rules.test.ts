import { describe, expect, it } from 'vitest'
import { viewSentences } from './context/view.js'
import { loadLanguage } from './language.js'
import { applyRules } from './rules.js'
import { readDocument } from './text/document.js'

const language = loadLanguage('en')

/** How the rules read the first match in a text. */
function reading(text: string): string | undefined {
  const views = viewSentences(readDocument(text, language.spelling, language.emoji), language)
  const [first] = applyRules(views, language.inputRules)
  return first && `${first.reading}${first.settled ? ', settled' : ''}: ${first.severity}`
}

describe('applyRules', () => {
  it.each([
    ['I am going to kill myself tonight.', 'plain: acute'],
    ['I am not going to kill myself.', 'negated, settled: none'],
    ['Nobody said that I want to kill myself.', 'negated, settled: none'],
    ['I wanted to kill myself many years ago.', 'past, settled: none'],
    ['My friend wants to die.', 'thirdPerson: concern'],
    ['In my novel the hero wants to die.', 'fiction, settled: none'],
    ['The lyrics say "I want to kill myself" twice.', 'quoted, settled: none'],
  ])('reads %s as %s', (text, expected) => {
    expect(reading(text)).toBe(expected)
  })

  it('finds nothing in everyday talk', () => {
    expect(reading('I watered the tomatoes and called my sister.')).toBeUndefined()
  })
})
