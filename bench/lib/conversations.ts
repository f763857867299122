const SYLLABLES =
  'ba be bi bo da de di do fa fe ga ge la le li lo ma me mi mo na ne ni no ra re ri ro sa se si so ta te ti to va ve wa we'.split(
    ' ',
  )
const COMMON = (
  'the a to and of I you it is that in was my not with for what me do have he she they but this be so at when how on your feel we ' +
  'are can think about would know like just really people time day work home night mother friend talk sleep want need try say'
).split(' ')

/** A generator of numbers in [0, 1) that is the same everywhere (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Made-up conversations as JSON lines of about 1.2 KB: words by Zipf's law from 40,000, punctuation, line ends, numbers. One
 * in 50 is an exact copy, one in 50 nearly one, one in 500 is broken.
 */
export function* conversationLines(count: number, seed = 1): Generator<string> {
  const random = randomFrom(seed)
  const words = [...COMMON, ...Array.from({ length: 40_000 }, (_, i) => inventedWord(i))]
  const word = (): string => words[Math.floor(words.length ** random()) - 1]
  const recent: string[] = []
  for (let i = 0; i < count; i++) {
    if (i % 500 === 499) {
      yield '{"messages": [{"role": "user", "content": "cut off\n'
      continue
    }
    let line =
      recent.length > 0 && i % 25 === 24 ? recent[Math.floor(random() * recent.length)] : conversation(random, word)
    if (i % 50 === 24) line = line.replace(/ (\w+)(?=[.?])/, ' indeed')
    if (recent.length < 1000) recent.push(line)
    else recent[Math.floor(random() * 1000)] = line
    yield line
  }
}

function inventedWord(index: number): string {
  let rest = index + 40
  let word = ''
  while (rest > 0) {
    word += SYLLABLES[rest % SYLLABLES.length]
    rest = Math.floor(rest / SYLLABLES.length)
  }
  return word
}

function conversation(random: () => number, word: () => string): string {
  const exchanges = 1 + Math.floor(random() * 4)
  const messages: { role: string; content: string }[] = []
  if (random() < 0.3) messages.push({ role: 'system', content: 'You listen well and ask one question at a time.' })
  for (let i = 0; i < exchanges; i++) {
    messages.push({ role: 'user', content: passage(random, word, 15 + random() * 60) })
    messages.push({ role: 'assistant', content: passage(random, word, 15 + random() * 70) })
  }
  return `${JSON.stringify({ messages })}\n`
}

function passage(random: () => number, word: () => string, length: number): string {
  let text = ''
  let begins = true
  for (let i = 0; i < length; i++) {
    const next = random() < 0.01 ? String(Math.floor(random() * 1000)) : word()
    text += begins ? next.charAt(0).toUpperCase() + next.slice(1) : next
    const mark = random()
    begins = mark < 0.1
    text += mark < 0.08 ? '. ' : mark < 0.1 ? '?\n' : mark < 0.16 ? ', ' : ' '
  }
  return `${text.trim()}.`
}
