import { RecordError } from '../records/rules.js'
import { alpaca } from './alpaca.js'
import { contextResponse } from './context-response.js'
import { isObject } from './format.js'
import type { Detection, Format, JsonObject } from './format.js'
import { messages } from './messages.js'
import { preference } from './preference.js'
import { promptCompletion } from './prompt-completion.js'
import { questionAnswer } from './question-answer.js'
import { shareGpt } from './share-gpt.js'
import { text } from './text.js'

/** Every format that is recognised. To add one: a file beside these, a line here, a fixture in fixtures/data/formats. */
export const FORMATS: readonly Format[] = [
  messages,
  shareGpt,
  alpaca,
  promptCompletion,
  contextResponse,
  questionAnswer,
  preference,
  text,
]

export function formatNamed(name: string): Format | undefined {
  return FORMATS.find((format) => format.name === name)
}

/** The format with the highest confidence; between equals the first in the list. Null where none recognises the record. */
export function detectFormat(record: JsonObject): (Detection & { format: Format }) | null {
  let best: (Detection & { format: Format }) | null = null
  for (const format of FORMATS) {
    const detection = format.detect(record)
    if (detection !== null && detection.confidence > (best?.confidence ?? 0)) best = { ...detection, format }
  }
  return best
}

/** A bare list of messages is a conversation too. */
export function asRecord(value: unknown): JsonObject {
  if (isObject(value)) return value
  if (Array.isArray(value) && value.length > 0 && value.every(isObject)) {
    return 'from' in value[0] ? { conversations: value } : { messages: value }
  }
  throw new RecordError('not-an-object')
}
