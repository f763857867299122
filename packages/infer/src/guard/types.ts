/** What a person's message can call for. The order is the order in which decisions are made between equal severities. */
export const inputCategories = [
  'suicide',
  'medicalEmergency',
  'harmToOthers',
  'abuse',
  'selfHarm',
  'psychosis',
] as const
export type InputCategory = (typeof inputCategories)[number]

/** What a model must not say in a therapeutic conversation. */
export const outputCategories = [
  'encouragesHarm',
  'medication',
  'romanticOrSexual',
  'diagnosis',
  'claimsHuman',
  'confidentiality',
] as const
export type OutputCategory = (typeof outputCategories)[number]

/**
 * none: nothing to do. concern: unclear, or about somebody else: answer with a gentle check-in.
 * high: a serious statement about the writer. acute: danger now (intent, means, an attempt, an attack, an emergency).
 * `high` and `acute` are alarms.
 */
export const severities = ['none', 'concern', 'high', 'acute'] as const
export type Severity = (typeof severities)[number]

/** How a passage that names a danger is meant. Everything but `plain` lowers the severity. */
export const readings = [
  'plain',
  'negated',
  'past',
  'thirdPerson',
  'reported',
  'quoted',
  'fiction',
  'topic',
  'figurative',
] as const
export type Reading = (typeof readings)[number]

/** A half-open range of UTF-16 code units in the text that was checked. */
export interface Span {
  readonly start: number
  readonly end: number
}

export interface Finding<Category extends string = InputCategory | OutputCategory> {
  readonly category: Category
  readonly severity: Severity
  readonly reading: Reading
  /** Where in the text; positions only, so that a finding can be logged without what the person wrote. */
  readonly evidence: Span
  /** The rule's id, or `classifier`, `second-opinion`, `conversation`. */
  readonly source: string
  /** 0 to 1: the classifier's probability; rules give 1. */
  readonly score: number
}

export type InputFinding = Finding<InputCategory>
export type OutputFinding = Finding<OutputCategory>

export function severityRank(severity: Severity): number {
  return severities.indexOf(severity)
}

export function isAlarm(severity: Severity): boolean {
  return severity === 'high' || severity === 'acute'
}

export function highestSeverity(all: Iterable<Severity>): Severity {
  let highest: Severity = 'none'
  for (const severity of all) if (severityRank(severity) > severityRank(highest)) highest = severity
  return highest
}

/** A sentence with what the guard should find in it; `category` is `none` where it should find nothing. */
export interface GuardSentence {
  readonly direction: 'input' | 'output'
  readonly category: string
  readonly severity: Severity
  readonly text: string
}
