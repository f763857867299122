import type { Turn } from '../conversation.js'

type Speaker = 'user' | 'assistant'

/** Ways of writing a conversation into one text, each by the words that begin a turn. */
const STYLES: readonly { name: string; marker: RegExp; speaker: (word: string) => Speaker }[] = [
  {
    name: 'Human: and Assistant:',
    marker: /(?:^|\n\n)(Human|Assistant):/g,
    speaker: (word) => (word === 'Human' ? 'user' : 'assistant'),
  },
  {
    name: '### Human: and ### Assistant:',
    marker: /(?:^|\n)### ?(Human|Assistant):/g,
    speaker: (word) => (word === 'Human' ? 'user' : 'assistant'),
  },
]

export interface Transcript {
  turns: Turn[]
  style: string
}

/**
 * A text that is a conversation from its first character on: it begins with a turn of the user, the speakers take turns,
 * and nothing stands outside. Null for any other text.
 */
export function transcriptOf(text: string): Transcript | null {
  const trimmed = text.trim()
  for (const { name, marker, speaker } of STYLES) {
    const turns = turnsBetween(trimmed, [...trimmed.matchAll(marker)], speaker)
    if (turns !== null) return { turns, style: name }
  }
  const turns = instructTurns(trimmed)
  return turns === null ? null : { turns, style: '[INST] and [/INST]' }
}

function turnsBetween(text: string, marks: RegExpMatchArray[], speaker: (word: string) => Speaker): Turn[] | null {
  if (marks.length < 2 || marks[0].index !== 0) return null
  const turns = marks.map((mark, i): Turn => {
    const start = (mark.index ?? 0) + mark[0].length
    return { role: speaker(mark[1]), content: text.slice(start, marks.at(i + 1)?.index).trim() }
  })
  return turns.every((turn, i) => turn.role === (i % 2 === 0 ? 'user' : 'assistant')) ? turns : null
}

/** Mistral's and Llama 2's `<s>[INST] question [/INST] answer</s>`, once or several times. */
function instructTurns(text: string): Turn[] | null {
  const exchange =
    /\s*(?:<s>)?\s*\[INST\]((?:(?!\[\/?INST\])[^])*)\[\/INST\]((?:(?!\[\/?INST\]|<\/?s>)[^])*)(?:<\/s>)?/y
  const turns: Turn[] = []
  while (exchange.lastIndex < text.length) {
    const match = exchange.exec(text)
    if (match === null) return null
    const [system, question] = llamaSystem(match[1].trim())
    if (system !== '') turns.push({ role: 'system', content: system })
    turns.push({ role: 'user', content: question }, { role: 'assistant', content: match[2].trim() })
  }
  return turns.length === 0 ? null : turns
}

function llamaSystem(question: string): [system: string, question: string] {
  const match = /^<<SYS>>([^]*?)<<\/SYS>>([^]*)$/.exec(question)
  return match === null ? ['', question] : [match[1].trim(), match[2].trim()]
}
