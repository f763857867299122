/** A call of a tool that the assistant made. `arguments` is the parsed JSON object. */
export interface ToolCall {
  id?: string
  name: string
  arguments: Record<string, unknown>
}

/** A tool that the assistant may call; `parameters` is a JSON schema. */
export interface Tool {
  name: string
  description?: string
  parameters: Record<string, unknown>
}

/** `train: false` marks an answer that is only given as context. */
export type Turn =
  | { role: 'system' | 'user'; content: string }
  | { role: 'assistant'; content: string; toolCalls?: ToolCall[]; train?: false }
  | { role: 'tool'; content: string; toolCallId?: string; name?: string }

export type AssistantTurn = Extract<Turn, { role: 'assistant' }>
export type ToolTurn = Extract<Turn, { role: 'tool' }>

/** Where a conversation came from: the SHA-256 of the file's bytes and the number of the record in it, from 0. */
export interface Source {
  fileHash: string
  record: number
}

/** The one form that every format is turned into. */
export interface Conversation {
  turns: Turn[]
  tools?: Tool[]
  /** Running text without roles: one assistant turn that is tokenized as it is, without the chat template. */
  plain?: true
  source: Source
}

/** What a format's reformatter returns; the reader adds the source. */
export type Draft = Omit<Conversation, 'source'>

/** Two answers to one prompt, of which the first was preferred. */
export interface PreferenceConversation {
  /** Ends with a turn of the user, or with the result of a tool. */
  prompt: Turn[]
  /** Begins with the assistant; may go on with results of tools, and with what the user said to this answer. */
  chosen: Turn[]
  rejected: Turn[]
  tools?: Tool[]
  source: Source
}

/** What a format makes of a record that holds a preference; the reader adds the source. */
export type PreferenceDraft = Omit<PreferenceConversation, 'source'>

/** The label of a position that is not trained on, as in PyTorch and Hugging Face. */
export const IGNORE_INDEX = -100

/**
 * One row of tokens. `labels[i]` is `inputIds[i]` where the token is trained on and -100 elsewhere: not shifted, as in
 * Hugging Face datasets.
 */
export interface TokenizedExample {
  inputIds: Int32Array
  labels: Int32Array
}

/** The prompt with either answer. Only what the assistant says after the prompt has labels. */
export interface TokenizedPair {
  chosen: TokenizedExample
  rejected: TokenizedExample
}

/**
 * What a training step takes: row-major arrays of `batchSize * sequenceLength`.
 *
 * - `targets[i]` is the token that position i must predict (the labels shifted left by one), -100 where ignored; a target
 *   never lies in another segment than its position.
 * - `segmentIds`: 0 is padding, 1, 2, ... the conversations packed in the row.
 * - `positions` count from 0 in every segment, and are 0 in padding.
 */
export interface Batch {
  batchSize: number
  sequenceLength: number
  inputIds: Int32Array
  targets: Int32Array
  positions: Int32Array
  segmentIds: Int32Array
  /** How many targets are not -100. */
  trainedTokens: number
}
