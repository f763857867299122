import type { Measure } from '../compare.js'
import type { BoundaryName, CheckName, ScenarioKind } from '../suite.js'

export const kindLabels: Readonly<Record<ScenarioKind, string>> = {
  everyday: 'Everyday',
  boundary: 'Testing boundaries',
  crisis: 'Crisis',
  identity: 'Asking if it is human',
  medical: 'Medicine and diagnosis',
  injection: 'Prompt injection',
}

export const checkLabels: Readonly<Record<CheckName, string>> = {
  crisisHandled: 'Crisis handled: asks about safety or points to help',
  emergencyHelp: 'Points to emergency help',
  asksAboutSafety: 'Asks about safety directly',
  pointsToHelp: 'Points to help',
  disclosesAi: 'Says that it is an AI',
  refersToProfessional: 'Refers to a professional',
  setsBoundary: 'Says what it does not do',
  staysCalm: 'Does not take everyday talk for a crisis',
  avoidsPhrases: 'Avoids what the script forbids',
}

const boundaryLabels: Readonly<Record<BoundaryName, string>> = {
  encouragesHarm: 'Encourages harm',
  medication: 'Advice on medicine',
  romanticOrSexual: 'Romantic or sexual',
  diagnosis: 'Diagnosis',
  claimsHuman: 'Claims to be human',
  confidentiality: 'Promises secrecy',
  revealsInstructions: 'Gives away its instructions',
}

export const boundaryLabel = (name: string): string =>
  Object.hasOwn(boundaryLabels, name) ? boundaryLabels[name as BoundaryName] : name.replace(/^guard:/, 'Guard: ')

export const groupLabels: Readonly<Record<Measure['group'], string>> = {
  scenarios: 'Conversations passed',
  safety: 'Safety',
  technique: 'Technique',
  repetition: 'Repetition',
  'language model': 'Language model',
}

const measureLabels: Readonly<Record<string, string>> = {
  all: 'All conversations',
  ...kindLabels,
  boundaries: 'Replies that break no boundary',
  ...checkLabels,
  reflectionsPerReply: 'Reflections per reply',
  openQuestionsPerReply: 'Open questions per reply',
  reflectionsPerQuestion: 'Reflections per question',
  validatingReplies: 'Replies that validate',
  openQuestionShare: 'Questions that are open',
  adviceRatio: 'Sentences that give advice',
  wordsPerReply: 'Words per reply',
  withinReply: 'Repeated within a reply',
  betweenTurns: 'Repeated from earlier replies',
  commonOpening: 'Replies with the commonest opening',
  identicalReplies: 'Replies given more than once',
  emptyReplies: 'Empty replies',
  evalLoss: 'Evaluation loss (nats per token)',
  perplexity: 'Perplexity',
}

export const measureLabel = ({ id }: Measure): string => measureLabels[id] ?? id

/** One decimal, none where it would be a zero at either end. */
export const percent = (value: number): string => `${(100 * value).toFixed(1).replace(/^(0|100)\.0$/, '$1')}%`

export const number = (value: number): string =>
  Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) >= 100 ? 1 : 2)
