import { RecordError } from '../records/rules.js'
import { exchange, fieldNamed, requireText } from './format.js'
import type { Format } from './format.js'

/** The counselling sets: `{Context, Response}`, where a context may have a list of responses. */
export const contextResponse: Format = {
  name: 'context-response',
  detect(record) {
    const context = fieldNamed(record, 'Context')
    const response = fieldNamed(record, 'Response', 'Responses')
    const isAnswer = typeof response === 'string' || Array.isArray(response)
    if (typeof context !== 'string' || !isAnswer || 'instruction' in record) return null
    return { confidence: 0.95, reason: 'Context is text and Response is text or a list' }
  },
  reformat(record) {
    const context = requireText(fieldNamed(record, 'Context'), 'Context')
    const response = fieldNamed(record, 'Response', 'Responses')
    const list: unknown[] = Array.isArray(response) ? response : [response]
    if (list.length === 0) throw new RecordError('nothing-to-train-on', 'Response')
    return list.map((answer, i) => exchange(context, requireText(answer, `Response.${i}`)))
  },
}
