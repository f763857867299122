// Trains the guard's network on labelled sentences with @mirastral/engine. Deterministic: the same sentences, seed and
// machine give the same weights.
import { f32, sizeOf } from '@mirastral/engine'
import type { Backend, Executable, Session } from '@mirastral/engine'
import {
  alarmLabels, encodeWord, inputCategories, markText, markerNames, outputCategories, quantizeRows,
} from '@mirastral/infer' // prettier-ignore
import type { GuardNetwork, GuardSentence, Language } from '@mirastral/infer'
import { tensorShapes, trainingProgram } from './guard-network.js'
import type { NetworkSizes } from './guard-network.js'
import type { WordVectors } from './guard-vectors.js'

export interface TrainingSettings {
  /** The most frequent words have a vector in any case, others if the sentences use them. */
  readonly frequentWords: number
  readonly markerWidth: number
  readonly hidden: number
  readonly layers: number
  /** Attention heads of the pooling. */
  readonly heads: number
  readonly epochs: number
  readonly batch: number
  readonly learningRate: number
  readonly weightDecay: number
  readonly inputDropout: number
  readonly layerDropout: number
  readonly outputDropout: number
  /** How often a word or a marker is hidden. */
  readonly wordDropout: number
  /** How often a harmless sentence is put before another one, and how often after it. */
  readonly joined: number
  readonly seed: number
}

export const defaultSettings: TrainingSettings = {
  frequentWords: 20_000, markerWidth: 32, hidden: 128, layers: 2, heads: 4, epochs: 24, batch: 256, learningRate: 3e-3, weightDecay: 1e-2,
  inputDropout: 0.25, layerDropout: 0.3, outputDropout: 0.6, wordDropout: 0.12, joined: 0.15, seed: 1,
} // prettier-ignore

interface Encoded {
  readonly rows: readonly number[]
  readonly markers: readonly (readonly number[])[]
  readonly targets: readonly number[]
  readonly filler: boolean
}

type Frame = Pick<GuardNetwork, 'words' | 'markers' | 'labels'>

/** Program lengths; longer texts are cut. Each is compiled once. */
const lengths = [12, 20, 32, 56, 88]

export async function trainNetwork(
  language: Language,
  direction: 'input' | 'output',
  sentences: readonly (GuardSentence & { readonly kind: string })[],
  vectors: WordVectors,
  { backend, ...settings }: TrainingSettings & { readonly backend: Backend },
): Promise<GuardNetwork> {
  const categories = direction === 'input' ? inputCategories : outputCategories
  const marked = sentences.map((s) => markText(s.text, language, direction).flat())
  const words = chooseWords(marked.flat(), vectors, settings.frequentWords)
  const frame: Frame = {
    words: new Map(words.map((word, i) => [word, i + 2])),
    markers: new Map(markerNames(language).map((name, i) => [name, i])),
    labels: [...alarmLabels, ...categories],
  }
  const examples = sentences.map((sentence, i): Encoded => {
    const encoded = (marked[i] ?? []).map((word) => encodeWord(frame, word))
    const targets = targetsOf(sentence, categories)
    const filler = sentence.severity === 'none' && /^(everyday|distress|warm|supportive)$/.test(sentence.kind)
    return { rows: encoded.map((w) => w.row), markers: encoded.map((w) => w.markers), targets, filler }
  })
  const { markerWidth, hidden, layers, heads } = settings
  const shape = { width: vectors.width, markerWidth, hidden, layers, heads }
  const sizes: NetworkSizes = {
    rows: words.length + 2, markers: frame.markers.size, labels: frame.labels.length, ...shape,
  } // prettier-ignore
  const weights = await train(examples, sizes, startVectors(words, vectors), settings, backend)
  const table = weights.get('vectors') ?? new Float32Array(0)
  weights.delete('vectors')
  return { ...frame, ...shape, vectors: quantizeRows(table, vectors.width), weights }
}

/** alarm, acute, any, and each category. */
function targetsOf({ severity, category }: GuardSentence, categories: readonly string[]): number[] {
  const alarm = { none: 0, concern: 0.5, high: 1, acute: 1 }[severity]
  const any = severity === 'none' ? 0 : 1
  return [alarm, severity === 'acute' ? 1 : 0, any, ...categories.map((name) => (name === category ? alarm : 0))]
}

function chooseWords(used: readonly { word: string }[], vectors: WordVectors, frequent: number): string[] {
  const counts = new Map<string, number>()
  for (const { word } of used) counts.set(word, (counts.get(word) ?? 0) + 1)
  counts.delete('</s>')
  const known = vectors.words.filter((word, i) => i < frequent || counts.has(word))
  const have = new Set(known)
  const own = [...counts]
    .filter(([word, n]) => n > 1 && !have.has(word) && /^\p{L}+$/u.test(word))
    .map(([word]) => word)
  return [...known, ...own.sort()]
}

/** The two rows that stand for no word, and words without a vector, begin at zero. */
function startVectors(words: readonly string[], { words: all, values, width }: WordVectors): Float32Array {
  const rows = new Map(all.map((word, i) => [word, i]))
  const start = new Float32Array((words.length + 2) * width)
  words.forEach((word, i) => {
    const row = rows.get(word)
    if (row !== undefined) start.set(values.subarray(row * width, (row + 1) * width), (i + 2) * width)
  })
  return start
}

async function train(
  examples: readonly Encoded[],
  sizes: NetworkSizes,
  vectors: Float32Array,
  settings: TrainingSettings,
  backend: Backend,
): Promise<Map<string, Float32Array>> {
  const random = mulberry32(settings.seed)
  const session = await backend.createSession()
  const shapes = tensorShapes(sizes)
  for (const [name, shape] of shapes) {
    const type = f32(...shape)
    const zeros = new Float32Array(sizeOf(shape))
    await session.bind(name, { type, data: name === 'vectors' ? vectors : startTensor(name, sizes, zeros, random) })
    for (const moment of ['m', 'v']) await session.bind(`${moment}/${name}`, { type, data: zeros })
  }
  const programs = new Map<number, Executable>()
  const steps = settings.epochs * Math.ceil(examples.length / settings.batch)
  let step = 0
  for (let epoch = 0; epoch < settings.epochs; epoch += 1) {
    let total = 0
    const batches = makeBatches(examples, settings, random)
    for (const { length, members } of batches) {
      const program = programs.get(length) ?? (await compile(session, sizes, settings, length))
      programs.set(length, program)
      step += 1
      const { loss } = await program.run({
        ...batchInputs(members, length, sizes, settings, random),
        ...schedule(step, steps, settings),
        seed: Int32Array.of(settings.seed, step),
      })
      total += loss[0] ?? 0
    }
    console.error(`guard-train: epoch ${epoch + 1} of ${settings.epochs}: loss ${(total / batches.length).toFixed(4)}`)
  }
  const trained = new Map<string, Float32Array>()
  for (const name of shapes.keys())
    trained.set(name, Float32Array.from((await session.read(name)).data as Float32Array))
  await session.dispose()
  return trained
}

const compile = (
  session: Session,
  sizes: NetworkSizes,
  settings: TrainingSettings,
  length: number,
): Promise<Executable> => session.compile(trainingProgram(sizes, { ...settings, length }))

/** Uniform, as PyTorch begins these layers. */
function startTensor(name: string, sizes: NetworkSizes, zeros: Float32Array, random: () => number): Float32Array {
  const { markers, hidden, heads } = sizes
  const states = 2 * hidden
  const fans: Readonly<Record<string, number>> = { markers, attend: states, 'out.weight': (2 + heads) * states }
  const fanIn = fans[name === 'out.bias' ? 'out.weight' : name] ?? hidden
  return zeros.map(() => (2 * random() - 1) / Math.sqrt(fanIn))
}

/** Linear warm-up over 15% of the steps, then a cosine to zero. */
function schedule(step: number, most: number, { learningRate }: TrainingSettings) {
  const warm = 0.15 * most
  const part = Math.min(1, (step - warm) / (most - warm))
  const factor = step < warm ? step / warm : (1 + Math.cos(Math.PI * part)) / 2
  return {
    learningRate: Float32Array.of(learningRate * factor),
    bias1: Float32Array.of(1 - 0.9 ** step),
    bias2: Float32Array.of(1 - 0.999 ** step),
  }
}

/** Shuffled, then gathered by length; a last batch that is not full is filled up with its own members. */
function makeBatches(examples: readonly Encoded[], { batch, joined }: TrainingSettings, random: () => number) {
  const fillers = examples.filter((e) => e.filler)
  const pick = (): Encoded | undefined => fillers[Math.floor(random() * fillers.length)]
  const beside = (): Encoded | undefined => (random() < joined ? pick() : undefined)
  const all = shuffled(examples, random).map((e) => join([beside(), e, beside()], e.targets))
  const batches = lengths.flatMap((length, i) => {
    const shorter = lengths[i - 1] ?? 0
    const last = i === lengths.length - 1
    const members = all.filter((e) => e.rows.length > shorter && (last || e.rows.length <= length))
    return Array.from({ length: Math.ceil(members.length / batch) }, (_, b) => ({
      length,
      members: Array.from({ length: batch }, (_unused, k) => members[(b * batch + k) % members.length]),
    }))
  })
  return shuffled(batches, random)
}

function join(parts: readonly (Encoded | undefined)[], targets: readonly number[]): Encoded {
  const present = parts.filter((part) => part !== undefined)
  return {
    rows: present.flatMap((part) => part.rows),
    markers: present.flatMap((part) => part.markers),
    targets,
    filler: false,
  }
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  return list
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}

function batchInputs(
  members: readonly (Encoded | undefined)[],
  length: number,
  { markers, labels }: NetworkSizes,
  { batch, wordDropout }: TrainingSettings,
  random: () => number,
) {
  const ids = new Int32Array(length * batch)
  const marks = new Float32Array(length * batch * markers)
  const mask = new Float32Array(length * batch)
  const targets = new Float32Array(batch * labels)
  const weights = new Float32Array(batch * labels).map((_, i) => [2, 0.5, 0.5][i % labels] ?? 0.5)
  members.forEach((member, b) => {
    if (!member) return
    targets.set(member.targets, b * labels)
    member.rows.slice(0, length).forEach((row, t) => {
      const place = t * batch + b
      mask[place] = 1
      // Row 1 is the unknown word.
      ids[place] = row > 1 && random() < wordDropout ? 1 : row
      for (const marker of member.markers[t] ?? [])
        if (random() >= 2 * wordDropout) marks[place * markers + marker] = 1 / (1 - 2 * wordDropout)
    })
  })
  return { ids, marks, mask, targets, weights }
}

/** The generator mulberry32 (T. Ettinger, 2017): numbers in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
