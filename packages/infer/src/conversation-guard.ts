import type { Turn } from '@mirastral/data'
import type { HelpResource, Notice } from './text-generator.js'

/** What happens before the model answers. */
export type InputDecision =
  /** The model answers, where given under further instructions, which become part of the system prompt. */
  | { readonly action: 'answer'; readonly instructions?: string; readonly notice?: Notice }
  /** This text is the answer; the model is not asked. */
  | { readonly action: 'respond'; readonly text: string; readonly notice?: Notice }

/** What may be shown of an answer so far. */
export interface OutputStep {
  /** The next part of the answer that may be shown; together the parts are a beginning of what was pushed. */
  readonly text: string
  /** Set when the rest must not be shown: the answer ends here, with this text in its place. */
  readonly ending?: { readonly text: string; readonly notice?: Notice }
}

/** Looks at one answer while it comes. Text that is not certain to be safe is held back. */
export interface OutputWatch {
  push(text: string): OutputStep
  /** At the end of the answer: what was held back. */
  finish(): OutputStep
}

/** Stands between a person and a model; see `guardGenerator`. */
export interface ConversationGuard {
  /** Where the people whom it guards get help, if it knows where they are; shown at any time. */
  readonly help?: readonly HelpResource[]
  /** `turns` is the whole conversation; its newest user turn is what is decided about. */
  checkInput(turns: readonly Turn[], signal?: AbortSignal): Promise<InputDecision>
  watchOutput(turns: readonly Turn[]): OutputWatch
}
