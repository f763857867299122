import { RecordError } from '../records/rules.js'
import { alpaca } from './alpaca.js'
import { contextResponse } from './context-response.js'
import { isObject } from './format.js'
import type { Detection, Format, JsonObject, PairFormat } from './format.js'
import { messages } from './messages.js'
import { preference } from './preference.js'
import { promptCompletion } from './prompt-completion.js'
import { questionAnswer } from './question-answer.js'
import { shareGpt } from './share-gpt.js'
import { text } from './text.js'

/** Every format that is recognised. To add one: a file beside these, a line here, a fixture in fixtures/data/formats. */
export const FORMATS: readonly Format[] = [
  preference,
  messages,
  shareGpt,
  alpaca,
  promptCompletion,
  contextResponse,
  questionAnswer,
  text,
]

export function formatNamed(name: string): Format | undefined {
  return FORMATS.find((format) => format.name === name)
}

/** Formats that say which of two answers is the better one. */
export const PAIR_FORMATS: readonly PairFormat[] = [preference]

/** The format with the highest confidence; between equals the first in the list. Null where none recognises the record. */
export function detectFormat(record: JsonObject): (Detection & { format: Format }) | null {
  return bestOf(FORMATS, record)
}

/** The same among the formats of preference pairs, whatever else the record may be. */
export function detectPairFormat(record: JsonObject): (Detection & { format: PairFormat }) | null {
  return bestOf(PAIR_FORMATS, record)
}

function bestOf<T extends Format>(formats: readonly T[], record: JsonObject): (Detection & { format: T }) | null {
  let best: (Detection & { format: T }) | null = null
  for (const format of formats) {
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
