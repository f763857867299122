import { RecordError } from '../records/rules.js'
import { exchange, fieldNamed, requireText } from './format.js'
import type { Format } from './format.js'

/** `{question, answer}`, with several `answers` too, and CounselChat's `questionTitle`, `questionText`, `answerText`. */
export const questionAnswer: Format = {
  name: 'question-answer',
  detect(record) {
    const question = fieldNamed(record, 'question', 'questionText')
    const answer = fieldNamed(record, 'answer', 'answers', 'answerText')
    const isAnswer = typeof answer === 'string' || (Array.isArray(answer) && answer.every((a) => typeof a === 'string'))
    if (typeof question !== 'string' || !isAnswer) return null
    return { confidence: 0.85, reason: 'question is text and answer is text or a list of texts' }
  },
  reformat(record) {
    const title = fieldNamed(record, 'questionTitle')
    const parts = [
      typeof title === 'string' ? title : '',
      requireText(fieldNamed(record, 'question', 'questionText'), 'question'),
    ]
    const question = parts.filter((part) => part.trim() !== '').join('\n\n')
    const answer = fieldNamed(record, 'answer', 'answers', 'answerText')
    const list: unknown[] = Array.isArray(answer) ? answer : [answer]
    if (list.length === 0) throw new RecordError('nothing-to-train-on', 'answers')
    return list.map((text, i) => exchange(question, requireText(text, `answers.${i}`)))
  },
}
