import { IGNORE_INDEX } from './conversation.js'
import type { TokenizedExample, TokenizedPair } from './conversation.js'
import { DataError } from './errors.js'
import type { PreparedData } from './prepare.js'
import type { ChatTokenizer } from './tokens/chat-tokenizer.js'
import { madeUpConversation } from './tokens/token-view.js'

/** What must hold before a training step is worth its time. */
export const PREFLIGHT_RULES = {
  'nothing-trained': 'must have a token to train on',
  'end-not-trained': 'must train the token that ends each answer, unless the answer is cut off by the sequence length',
  'bos-count': 'must begin with the begin-of-sequence token exactly as often as the chat template writes it',
  'pad-is-trained': 'must not train on the padding token',
  'too-long': 'must fit the sequence length',
  'serving-differs': 'must be given in training, before the last answer, what it is given in serving, byte for byte',
} as const

export type PreflightRule = keyof typeof PREFLIGHT_RULES

export interface PreflightReport {
  rows: number
  /** Rows whose last answer is cut off by the sequence length. */
  cutRows: number
  /** How many rows (for serving-differs: conversations) break a rule. */
  failures: Partial<Record<PreflightRule, number>>
}

type Checked = Pick<PreparedData, 'tokenizer' | 'report' | 'maxLength'> &
  Record<'train' | 'eval', Iterable<TokenizedExample | TokenizedPair>>

/** Looks at every row, both of each preference pair. */
export function inspect(data: Checked): PreflightReport {
  const report: PreflightReport = { rows: 0, cutRows: 0, failures: {} }
  const fail = (rule: PreflightRule, by = 1): void => {
    report.failures[rule] = (report.failures[rule] ?? 0) + by
  }
  const bosCount = bosPerRow(data.tokenizer)
  for (const examples of [data.train, data.eval]) {
    for (const row of rowsIn(examples)) {
      report.rows++
      const ends = endsOf(row, data.tokenizer)
      if (ends.runs === 0) fail('nothing-trained')
      if (ends.cut) report.cutRows++
      if (ends.open || (ends.cut && row.inputIds.length < data.maxLength)) fail('end-not-trained')
      if (!hasBos(row, data.tokenizer, bosCount)) fail('bos-count')
      if (row.labels.includes(data.tokenizer.padTokenId)) fail('pad-is-trained')
      if (row.inputIds.length > data.maxLength) fail('too-long')
    }
  }
  if (data.report.totals.servingDiffers > 0) fail('serving-differs', data.report.totals.servingDiffers)
  return report
}

/**
 * Checks all rows.
 *
 * @throws DataError MIRASTRAL_DATA_PREFLIGHT that names every broken rule and how many rows break it.
 */
export function preflight(data: Checked): PreflightReport {
  const report = inspect(data)
  const broken = (Object.keys(PREFLIGHT_RULES) as PreflightRule[]).flatMap((rule) => {
    const count = report.failures[rule]
    return count === undefined ? [] : [`${rule}: ${count} of ${report.rows} rows (a row ${PREFLIGHT_RULES[rule]})`]
  })
  if (report.rows === 0) broken.push('there are no rows')
  if (broken.length > 0) throw new DataError('MIRASTRAL_DATA_PREFLIGHT', `pre-flight: ${broken.join('; ')}`)
  return report
}

function* rowsIn(examples: Iterable<TokenizedExample | TokenizedPair>): Generator<TokenizedExample> {
  for (const example of examples) {
    if ('chosen' in example) yield* [example.chosen, example.rejected]
    else yield example
  }
}

interface Ends {
  /** Stretches of trained tokens. */
  runs: number
  /** The last stretch reaches the end of the row without a token that ends an answer. */
  cut: boolean
  /** A stretch inside the row ends without such a token. */
  open: boolean
}

function endsOf({ inputIds, labels }: TokenizedExample, tokenizer: ChatTokenizer): Ends {
  const ends: Ends = { runs: 0, cut: false, open: false }
  for (let i = 1; i < labels.length; i++) {
    if (labels[i] === IGNORE_INDEX) continue
    const isLast = i + 1 === labels.length
    if (!isLast && labels[i + 1] !== IGNORE_INDEX) continue
    ends.runs++
    if (tokenizer.isSpecial(inputIds[i])) continue
    if (isLast) ends.cut = true
    else ends.open = true
  }
  return ends
}

function hasBos({ inputIds }: TokenizedExample, { bosTokenId }: ChatTokenizer, expected: number): boolean {
  if (bosTokenId === undefined) return true
  const found = inputIds.reduce((sum, id) => sum + (id === bosTokenId ? 1 : 0), 0)
  return found === expected && (expected === 0 || inputIds[0] === bosTokenId)
}

/** One, or none where the template begins without it. */
function bosPerRow(tokenizer: ChatTokenizer): number {
  const { inputIds } = tokenizer.encodeConversation(madeUpConversation(false))
  return inputIds[0] === tokenizer.bosTokenId ? 1 : 0
}
