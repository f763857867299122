import { requireText } from './format.js'
import type { Format } from './format.js'
import { transcriptOf } from './transcript.js'

/** `{text}`: a transcript of a conversation, else running text that is trained on as it is. */
export const text: Format = {
  name: 'text',
  detect(record) {
    if (typeof record.text !== 'string') return null
    const style = transcriptOf(record.text)?.style
    if (style !== undefined) return { confidence: 0.7, reason: `text is a transcript with ${style}` }
    return { confidence: 0.5, reason: 'there is a text, and no field of another format' }
  },
  reformat(record) {
    const content = requireText(record.text, 'text')
    const transcript = transcriptOf(content)
    if (transcript !== null) return [{ turns: transcript.turns }]
    return [{ turns: [{ role: 'assistant', content }], plain: true }]
  },
}
