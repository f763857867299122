import type { Tool, Turn } from '../conversation.js'
import { DataError } from '../errors.js'
import type { Segment } from './segments.js'

export interface RenderOptions {
  tools?: readonly Tool[]
  /** Ends with what begins an assistant turn, where the template has such a thing. */
  addGenerationPrompt?: boolean
}

/** One way of writing a conversation for a model, the same for training and serving. */
export interface ChatTemplate {
  readonly name: string
  /** Whether an assistant turn may hold both text and tool calls. */
  readonly textBesideToolCalls: boolean
  /**
   * @throws DataError MIRASTRAL_DATA_TEMPLATE where the conversation has not the form that the template needs.
   */
  render(turns: readonly Turn[], options: RenderOptions): Segment[]
}

/** The roles say enough about a conversation's form, and hold none of its text. */
export function templateError(turns: readonly Turn[], rule: string): DataError {
  const roles = turns.map((turn) => turn.role).join(', ')
  return new DataError('MIRASTRAL_DATA_TEMPLATE', `chat template: ${rule}, got the roles ${roles || '(none)'}`)
}
