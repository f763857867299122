/** Why a record, or a whole file, was not used. The words are what a person reads in a report. */
export const RULES = {
  'invalid-json': 'is not valid JSON',
  'invalid-utf8': 'is not valid UTF-8 (name the encoding of the file: latin1, windows-1252, ...)',
  'invalid-row': 'is a CSV row that does not fit the header',
  'record-too-large': 'is larger than one record may be',
  'too-deep': 'is nested too deeply',
  'not-an-object': 'is neither an object nor a list of messages',
  'unknown-format': 'has the fields of no known format (name the format, or give a mapping)',
  'invalid-shape': 'has a field of the wrong type',
  'unknown-role': 'has a role that is not system, user, assistant or tool',
  'unsupported-content': 'has content that is not text',
  'tool-arguments': 'has tool arguments that are not a JSON object',
  'tool-call-id': 'has two tool calls with the same id in one turn',
  'tool-result-without-call': 'has a tool result that answers no tool call',
  'tool-result-missing': 'goes on before a tool call has its result',
  'lone-surrogate': 'has half of a surrogate pair, which is no Unicode character',
  'control-character': 'has a NUL or a Unicode noncharacter in a text',
  'too-many-turns': 'has more turns than a conversation may have',
  'text-too-long': 'has a longer text than a turn may have',
  'no-user-turn': 'has no user turn before the answer',
  'nothing-to-train-on': 'has no answer of the assistant',
  'not-a-pair': 'has no chosen and rejected answer',
  'prompt-not-open': 'has a prompt that does not end with the user or with the result of a tool',
  'same-answers': 'has the same answer chosen and rejected',
  'template-refuses': 'cannot be written by the chat template',
  'too-long': 'is longer than the sequence length, and was dropped as asked',
  'truncated-away': 'has nothing to train on left after truncation',
} as const

export type Rule = keyof typeof RULES

/** What was changed in a record that is used. */
export const ADJUSTMENTS = {
  'system-joined': 'several system turns joined into one',
  'turns-merged': 'turns of one role in a row merged',
  'empty-turn-removed': 'a turn without text removed',
  'leading-assistant-removed': 'an answer before the first question removed',
  'trailing-turns-removed': 'turns after the last answer removed',
  'tool-call-id-added': 'a missing tool-call id added',
  'text-beside-tool-calls-removed': 'text beside a tool call removed, as the template has no place for it',
} as const

export type Adjustment = keyof typeof ADJUSTMENTS

/** A record that cannot be used. Caught by the pipeline, which counts it; it never holds any of the record's text. */
export class RecordError extends Error {
  readonly rule: Rule
  /** Where in the record: names of the format's own fields and indices only. */
  readonly where: string | undefined

  constructor(rule: Rule, where?: string) {
    // Nobody reads the stack, and taking it is most of what a broken record costs.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(`a record ${RULES[rule]}${where === undefined ? '' : ` (${where})`}`)
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'RecordError'
    this.rule = rule
    this.where = where
  }
}
