import type { Turn } from '../conversation.js'
import { RecordError } from '../records/rules.js'
import { parsedIfJsonText, requireText } from './format.js'
import type { Format } from './format.js'

/** Alpaca's `{instruction, input?, output}` (LLaMA-Factory's system and history too), and Dolly's context and response. */
export const alpaca: Format = {
  name: 'alpaca',
  detect(record) {
    if (typeof record.instruction !== 'string') return null
    if (typeof record.output === 'string') return { confidence: 0.9, reason: 'instruction and output are text' }
    const isDolly = typeof record.response === 'string' && typeof record.context === 'string'
    return isDolly ? { confidence: 0.9, reason: 'instruction, context and response are text' } : null
  },
  reformat(record) {
    const input = record.input ?? record.context ?? ''
    const question = [requireText(record.instruction, 'instruction'), requireText(input, 'input')]
    const answer = requireText(record.output ?? record.response, 'output')
    const system = typeof record.system === 'string' && record.system.trim() !== '' ? record.system : undefined
    const turns: Turn[] = [
      ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
      ...historyOf(record.history),
      { role: 'user', content: question.filter((part) => part.trim() !== '').join('\n\n') },
      { role: 'assistant', content: answer },
    ]
    return [{ turns }]
  },
}

/** Pairs of a question and its answer that came before. */
function historyOf(value: unknown): Turn[] {
  const history = parsedIfJsonText(value)
  if (history === undefined || history === null || history === '') return []
  if (!Array.isArray(history)) throw new RecordError('invalid-shape', 'history')
  return history.flatMap((pair: unknown, i): Turn[] => {
    if (!Array.isArray(pair) || pair.length !== 2) throw new RecordError('invalid-shape', `history.${i}`)
    return [
      { role: 'user', content: requireText(pair[0], `history.${i}.0`) },
      { role: 'assistant', content: requireText(pair[1], `history.${i}.1`) },
    ]
  })
}
