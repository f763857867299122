import { z } from 'zod'
import type { Draft, Turn } from '../conversation.js'
import { NATIONAL_IDS, digitsOf, isIban, luhn } from './id-numbers.js'
import { count } from './tally.js'
import type { Tally } from './tally.js'

export const redactionSchema = z.strictObject({
  email: z.boolean().default(true),
  phone: z.boolean().default(true),
  /** Payment cards and bank accounts (IBAN). */
  card: z.boolean().default(true),
  nationalId: z.boolean().default(true),
  /** Web addresses that carry a password, key or session. */
  url: z.boolean().default(true),
  /** Names of people, replaced wherever they stand as whole words, in any case. */
  names: z.array(z.string().min(1)).default([]),
  /** Numbers that stay, by their digits: by default crisis lines, which an answer must be able to name. */
  keepNumbers: z.array(z.string()).default(['988', '911', '112', '999', '741741', '116123', '18002738255', '08001111']),
})

export type RedactionOptions = z.output<typeof redactionSchema>
type Kind = Exclude<keyof RedactionOptions, 'names' | 'keepNumbers'> | 'name'

interface Pattern {
  kind: Kind
  pattern: RegExp
  accepts?: (match: string) => boolean
}

const URL_PATTERN = /\b(?:https?|wss?|ftp):\/\/[^\s<>"'`]+/gi
// Every pattern begins where something begins and has bounded parts: a text of a million letters must not take its square.
const EMAIL_PATTERN = /(?<![\p{L}\p{N}._%+-])[\p{L}\p{N}._%+-]{1,256}@(?:[\p{L}\p{N}-]{1,63}\.){1,9}\p{L}{2,63}/gu
/** Written together, in fours, or as 4-6-4 and 4-6-5. */
const CARD_PATTERN =
  /(?<![\p{L}\p{N}])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{4,5})(?![\p{L}\p{N}])/gu
const IBAN_PATTERN = /(?<![\p{L}\p{N}])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![\p{L}\p{N}])/gu
const PHONE_PATTERN = /(?<![\p{L}\p{N}.,/-])(?:\+|\(|\d)[\d ().\/-]{5,20}\d(?![\p{L}\p{N}])/gu
const SECRET_PARAMETER =
  /[?&#;](?:[\w-]{0,64}(?:token|secret|signature|password|passwd|session|credential|apikey|api_key|jwt)[\w-]{0,64}|key|sig|auth|code|sid|pwd|access)=[^&#\s]/i

/** Replaces personal data in conversations by the name of its kind in brackets, and counts what it replaced. */
export class Redactor {
  private readonly patterns: readonly Pattern[]

  constructor(options: RedactionOptions) {
    const kept = new Set(options.keepNumbers.map(digitsOf))
    const all: Pattern[] = [
      { kind: 'url', pattern: URL_PATTERN, accepts: hasSecret },
      { kind: 'email', pattern: EMAIL_PATTERN },
      { kind: 'card', pattern: IBAN_PATTERN, accepts: isIban },
      { kind: 'card', pattern: CARD_PATTERN, accepts: (match) => luhn(digitsOf(match)) },
      ...NATIONAL_IDS.map((id): Pattern => ({ kind: 'nationalId', ...id })),
      { kind: 'phone', pattern: PHONE_PATTERN, accepts: (match) => isPhone(match) && !kept.has(digitsOf(match)) },
    ]
    const names = [...options.names].sort((a, b) => b.length - a.length).map(escaped)
    const wholeWord = new RegExp(`(?<![\\p{L}\\p{N}])(?:${names.join('|')})(?![\\p{L}\\p{N}])`, 'giu')
    this.patterns = [
      ...all.filter(({ kind }) => kind === 'name' || options[kind]),
      ...(names.length === 0 ? [] : [{ kind: 'name' as const, pattern: wholeWord }]),
    ]
  }

  /** Every text of a conversation: turns, arguments of tool calls, descriptions of tools. Names of tools and fields stay. */
  redact(draft: Draft, counts: Tally): Draft {
    const clean = (value: string): string => this.redactText(value, counts)
    const turns = draft.turns.map((turn): Turn => {
      const content = clean(turn.content)
      if (turn.role !== 'assistant' || turn.toolCalls === undefined) return { ...turn, content }
      const toolCalls = turn.toolCalls.map((call) => ({ ...call, arguments: mapStrings(call.arguments, clean) }))
      return { ...turn, content, toolCalls }
    })
    const tools = draft.tools?.map((tool) =>
      tool.description === undefined ? tool : { ...tool, description: clean(tool.description) },
    )
    return { ...draft, turns, ...(tools === undefined ? {} : { tools }) }
  }

  redactText(text: string, counts: Tally): string {
    return this.patterns.reduce(
      (written, { kind, pattern, accepts }) =>
        written.replaceAll(pattern, (match) => {
          if (accepts?.(match) === false) return match
          count(counts, kind)
          return `[${LABELS[kind]}]`
        }),
      text,
    )
  }
}

const LABELS: Readonly<Record<Kind, string>> = {
  email: 'EMAIL',
  phone: 'PHONE',
  card: 'CARD',
  nationalId: 'ID',
  url: 'URL',
  name: 'NAME',
}

function hasSecret(url: string): boolean {
  return (
    /^\w+:\/\/[^/?#\s]*@/.test(url) ||
    SECRET_PARAMETER.test(url) ||
    /(?<![\w-])[\w-]{24,}\.[\w-]{16,}\.[\w-]{16,}/.test(url)
  )
}

/** Seven to fifteen digits that are written like a number to call, and not like a date, a year or an amount. */
function isPhone(match: string): boolean {
  const digits = digitsOf(match)
  if (digits.length < 7 || digits.length > 15) return false
  if (/^\(?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}$/.test(match)) return false
  if (/^(?:\+|00|0|\()/.test(match)) return true
  return /^1?[ .-]?\d{3}[ .-]\d{3}[ .-]\d{4}$/.test(match) || /^\d{3}-\d{4}$/.test(match)
}

function mapStrings<T>(value: T, change: (text: string) => string): T {
  if (typeof value === 'string') return change(value) as T
  if (Array.isArray(value)) return value.map((item: unknown) => mapStrings(item, change)) as T
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value as Record<string, unknown>)
  return Object.fromEntries(members.map(([key, member]) => [key, mapStrings(member, change)])) as T
}

function escaped(name: string): string {
  return name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\s+/g, '\\s+')
}
