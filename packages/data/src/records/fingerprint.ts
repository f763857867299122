import { hash } from 'node:crypto'
import type { Conversation, Draft, PreferenceDraft, Turn } from '../conversation.js'

/** Texts that differ only in white space or in Unicode's composition are the same text. */
export function canonical(text: string): string {
  const composed = text.normalize('NFC')
  // Most texts have single spaces only, and need not be copied.
  return (/[^\S ]| {2}/.test(composed) ? composed.replaceAll(/\s+/g, ' ') : composed).trim()
}

/** 128 bits that are equal for equal conversations, in hexadecimal. */
export function contentHash({ turns, tools = [], plain }: Draft): string {
  return hash('sha256', JSON.stringify([plain === true, turns.map(partsOf), tools])).slice(0, 32)
}

/** The same for preferences; never equal to that of a conversation. */
export function pairHash({ prompt, chosen, rejected, tools = [] }: PreferenceDraft): string {
  const sides = [prompt, chosen, rejected].map((turns) => turns.map(partsOf))
  return hash('sha256', JSON.stringify(['pair', ...sides, tools])).slice(0, 32)
}

/** Whether two answers say the same. */
export function isSameAnswer(a: readonly Turn[], b: readonly Turn[]): boolean {
  return JSON.stringify(a.map(partsOf)) === JSON.stringify(b.map(partsOf))
}

function partsOf(turn: Turn): unknown[] {
  const calls = turn.role === 'assistant' ? (turn.toolCalls ?? []) : []
  return [turn.role, canonical(turn.content), calls.map(({ name, arguments: args }) => [name, args])]
}

/** Shorter openings ("Hello") say little about which conversation it is; the next user turn is then added. */
const MIN_OPENING = 40

/**
 * A number in [0, 1) that decides the side of the train/eval split. It comes from how the user begins, so that a
 * conversation that grows between runs, and several answers to one question, stay on one side.
 */
export function splitPoint(conversation: Pick<Conversation, 'turns'>, seed: number): number {
  let opening = ''
  for (const turn of conversation.turns) {
    if (turn.role === 'user') opening += ` ${canonical(turn.content).toLowerCase()}`
    if (opening.length > MIN_OPENING) break
  }
  const text =
    opening === '' ? conversation.turns.map((turn) => canonical(turn.content).toLowerCase()).join(' ') : opening
  return Number.parseInt(hash('sha256', `${seed}:${text}`).slice(0, 12), 16) / 2 ** 48
}
