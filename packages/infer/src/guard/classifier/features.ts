import { viewSentences } from '../context/view.js'
import type { SentenceView } from '../context/view.js'
import type { Language } from '../language.js'
import type { TextDocument } from '../text/document.js'

/** Buckets of hashed features, ascending, and their values; the values of a text have length 1. */
export interface FeatureVector {
  readonly indices: Int32Array
  readonly values: Float32Array
}

/** Lists of the rules' vocabulary that also serve as word classes; the longest match wins. */
const concepts: readonly string[] = (
  'KILL_SELF HARM_SELF KILL_OTHER IF_GONE DIE INTEND WANT THINK_OF UNREAL PARTNER PARENT CHILD ROLE KIN PILL GUN BLADE ' +
  'HIGH_PLACE TRAFFIC DAY NUMBER_WORD DEAD_STATE'
).split(' ')

const cues: readonly string[] = (
  'PAST_FAR PAST_NEAR USED_TO RECENT RELAPSE RECOVERED FICTION_FRAME REPORTED_SPEECH TOPIC JOKE DENIED_FRAME DENIED_AFTER ' +
  'LEISURE CONDITION DOSE_ROUTINE'
).split(' ')

const grammarWords: ReadonlySet<string> = new Set(
  (
    'i me my myself he she they him her them his we you it who not no never nobody nothing if what how why when is are was were ' +
    'am be been had have has do did does will would can could should to of and but or so because without again anymore still ' +
    'just all too'
  ).split(' '),
)

type Add = (name: string, weight: number) => void

/** Turns a text into a vector of `buckets` hashed features: words and their neighbours, letter groups, word classes, cues. */
export function extractFeatures(document: TextDocument, language: Language, buckets: number): FeatureVector {
  const weights = new Map<number, number>()
  const add: Add = (name, weight) => {
    const bucket = hash(name) % buckets
    weights.set(bucket, Math.max(weights.get(bucket) ?? 0, weight))
  }
  for (const view of viewSentences(document, language)) {
    const classes = classesByWord(view, language)
    addWords(view, add)
    addConcepts(conceptSequence(view), add)
    addClasses(classes, add)
    addCues(view, new Set(classes.flat()), add)
  }
  const indices = Int32Array.from([...weights.keys()].sort((a, b) => a - b))
  const values = Float32Array.from(indices, (i) => weights.get(i) ?? 0)
  const norm = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0)) || 1
  return { indices, values: values.map((v) => v / norm) }
}

function addWords(view: SentenceView, add: Add): void {
  const words = ['<', ...view.sentence.tokens.map((t) => t.word), '>']
  words.forEach((word, i) => {
    add(`w ${word}`, 1)
    if (i + 1 < words.length) add(`w ${word} ${words[i + 1]}`, 1)
    if (i + 2 < words.length) add(`s ${word} ${words[i + 2]}`, 0.7)
    if (word.length < 5) return
    const padded = `^${word}$`
    for (let c = 0; c + 4 <= padded.length; c += 1) add(`c ${padded.slice(c, c + 4)}`, 0.3)
  })
}

function addConcepts(sequence: readonly string[], add: Add): void {
  sequence.forEach((a, i) => {
    add(`k ${a}`, 1.3)
    for (let d = 1; d <= 4 && i + d < sequence.length; d += 1)
      add(`k${d === 1 ? '' : '~'} ${a} ${sequence[i + d]}`, d === 1 ? 1.2 : 0.8)
    if (i + 2 < sequence.length) add(`k ${a} ${sequence[i + 1]} ${sequence[i + 2]}`, 0.9)
  })
}

function addClasses(classes: readonly (readonly string[])[], add: Add): void {
  classes.forEach((here, i) => {
    for (const a of here) {
      add(`l ${a}`, 1)
      for (let d = 1; d <= 4; d += 1) for (const b of classes[i + d] ?? []) add(`o ${a} ${b}`, d <= 2 ? 0.6 : 0.4)
    }
  })
}

function addCues(view: SentenceView, classes: ReadonlySet<string>, add: Add): void {
  const found = cues.filter((name) => view.cues.findName(name).length > 0)
  if (view.sentence.question) found.push('QUESTION')
  if (view.sentence.tokens.some((t) => t.quoted)) found.push('QUOTED')
  for (const cue of found) {
    add(`cue ${cue}`, 1)
    for (const name of classes) add(`cue ${cue} ${name}`, 0.4)
  }
}

/** For each word its classes of meaning and, if it is a grammar word, itself. Idioms are one class. */
function classesByWord(view: SentenceView, language: Language): string[][] {
  return view.sentence.tokens.map(({ word }, i) => {
    const classes = view.idiomWords.has(i) ? ['IDIOM'] : [...(language.wordClasses.get(word) ?? [])]
    return grammarWords.has(word) ? [...classes, word] : classes
  })
}

/** The sentence as a sequence of concepts and grammar words; negated concepts carry a mark, idioms are one symbol. */
function conceptSequence(view: SentenceView): string[] {
  const sequence: string[] = []
  const tokens = view.sentence.tokens
  let negated = 0
  for (let i = 0; i < tokens.length;) {
    const word = tokens[i]?.word ?? ''
    if (tokens[i]?.afterPause) negated = 0
    if (view.idiomWords.has(i)) {
      while (view.idiomWords.has(i)) i += 1
      sequence.push('IDIOM')
      continue
    }
    const [concept, length] = longestConcept(view, i)
    if (concept) sequence.push(negated > 0 ? `NOT_${concept}` : concept)
    else if (grammarWords.has(word)) sequence.push(word)
    negated = word === 'not' || word === 'never' || word === 'no' ? 6 : negated - 1
    i += Math.max(1, length)
  }
  return sequence
}

function longestConcept(view: SentenceView, at: number): [string | undefined, number] {
  let best: [string | undefined, number] = [undefined, 0]
  for (const name of concepts) {
    const length = Math.max(0, ...view.rules.nameEnds(name, at)) - at
    if (length > best[1]) best = [name, length]
  }
  return best
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) {
    value ^= text.charCodeAt(i)
    value = Math.imul(value, 0x01000193)
  }
  return value >>> 0
}
