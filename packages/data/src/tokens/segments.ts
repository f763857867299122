/**
 * A piece of a rendered conversation. Only the template writes control tokens: text that looks like one stays text, so
 * that no content of a file can end a turn or open an instruction.
 */
export interface Segment {
  text: string
  /** True for one special token of the vocabulary. */
  control: boolean
  /** The index of the assistant turn that produces it, or -1 for what the model is given. */
  producedBy: number
  /** True for a tool call (and the end-of-turn token after it). */
  toolCall: boolean
}

export function control(text: string, producedBy = -1, toolCall = false): Segment {
  return { text, control: true, producedBy, toolCall }
}

export function text(text: string, producedBy = -1, toolCall = false): Segment {
  return { text, control: false, producedBy, toolCall }
}

export function joinSegments(segments: readonly Segment[]): string {
  return segments.map((segment) => segment.text).join('')
}
