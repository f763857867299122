import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { packageDataFolder, readPackageData } from '../package-data.js'
import { inflections } from './pattern/inflect.js'
import { canMatchNothing, indexByWord } from './pattern/index-by-word.js'
import type { IndexedPattern } from './pattern/index-by-word.js'
import type { Vocabulary } from './pattern/match.js'
import { parsePattern, patternError, patternNames, patternWords } from './pattern/parse.js'
import type { Inflect, PatternNode } from './pattern/parse.js'
import type { Spelling } from './text/repair.js'
import { inputCategories, outputCategories, readings, severities } from './types.js'
import type { InputCategory, OutputCategory, Reading, Severity } from './types.js'

export interface Rule<Category extends string = string> {
  readonly id: string
  readonly category: Category
  readonly severity: Severity
  readonly pattern: IndexedPattern
  /** writer: the one who does it must be the person who writes. anyone: the pattern itself says who. */
  readonly subject: 'writer' | 'anyone'
  /** Readings that do not weaken this rule. */
  readonly ignore: ReadonlySet<Reading>
  /**
   * any: a bare past tense weakens. settled: a bare past tense ("he hit me") counts as now, only what is long over weakens.
   * dated: as settled, but weeks are long enough.
   */
  readonly past: 'any' | 'settled' | 'dated'
  /** If this occurs in the sentence, the match is read as `figurative`. */
  readonly unless: IndexedPattern | undefined
}

/** Everything that the guard knows about one language: built from the data files in `data/guard/<code>/`. */
export interface Language {
  readonly code: string
  readonly spelling: Spelling
  readonly emoji: ReadonlyMap<string, string>
  /** Named lists: the vocabulary of the rules, and the cues of negation, time, speech and fiction. */
  readonly vocabulary: Vocabulary
  readonly idioms: IndexedPattern
  /** Classes of meaning that a word belongs to, for the classifier. */
  readonly wordClasses: ReadonlyMap<string, readonly string[]>
  readonly inputRules: readonly Rule<InputCategory>[]
  readonly outputRules: readonly Rule<OutputCategory>[]
}

const patterns = z.array(z.string().min(1)).min(1)
const named = z.record(z.string().regex(/^[A-Z][A-Z0-9_]*$/), patterns)

const ruleFile = z.strictObject({
  category: z.enum([...inputCategories, ...outputCategories]),
  vocabulary: named.optional(),
  rules: z.array(
    z.strictObject({
      id: z.string(),
      severity: z.enum(severities),
      subject: z.enum(['writer', 'anyone']).optional(),
      ignore: z.array(z.enum(readings)).optional(),
      past: z.enum(['any', 'settled', 'dated']).optional(),
      unless: patterns.optional(),
      patterns,
    }),
  ),
})

const spellingFile = z.strictObject({
  expansions: z.record(z.string(), z.string()),
  irregularVerbs: z.record(z.string(), z.array(z.string())),
  emoji: z.record(z.string(), z.string()),
  crisisWords: z.array(z.string()),
  commonWords: z.array(z.string()),
  glueWords: z.array(z.string()),
})

const idiomFile = z.strictObject({ idioms: patterns, leisure: patterns })

/**
 * Reads a language's data files. The files whose names end in `-rules.json` hold one category each.
 * @throws InferError MIRASTRAL_INFER_GUARD if a file has not the expected form or a pattern names an unknown list.
 */
export function loadLanguage(code = 'en'): Language {
  const folder = join(packageDataFolder(), 'guard', code)
  const read = <T>(name: string, schema: z.ZodType<T>): T =>
    readPackageData(`guard/${code}/${name}`, schema, 'MIRASTRAL_INFER_GUARD')
  const spelling = read('spelling.json', spellingFile)
  const inflect: Inflect = (verb) => inflections(verb, spelling.irregularVerbs)
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('-rules.json'))
    .sort()
    .map((name) => read(name, ruleFile))
  const idioms = read('idioms.json', idiomFile)
  const lists = Object.assign(
    { LEISURE: idioms.leisure },
    read('vocabulary.json', named),
    read('cues.json', named),
    ...files.map((f) => f.vocabulary ?? {}),
  ) as Record<string, string[]>
  const nodes = new Map(Object.entries(lists).map(([name, list]) => [name, parseList(list, inflect)]))
  const parsed: PatternNode[] = [...nodes.values()]
  const index = (list: readonly string[]): IndexedPattern => {
    const node = parseList(list, inflect)
    parsed.push(node)
    if (canMatchNothing(node, nodes)) throw patternError(list.join(' | ').slice(0, 80), 'it can match without a word')
    return indexByWord(node, nodes)
  }
  const rules = files.flatMap((file) => file.rules.map((rule) => buildRule(file.category, rule, index)))
  const idiomPattern = index(idioms.idioms)
  checkNames(parsed, nodes)
  return {
    code,
    spelling: buildSpelling(spelling, parsed.flatMap(patternWords), join(folder, 'ordinary-words.txt')),
    emoji: new Map(Object.entries(spelling.emoji)),
    vocabulary: new Map([...nodes].map(([name, node]) => [name, indexByWord(node, nodes)])),
    idioms: idiomPattern,
    wordClasses: invert(read('classes.json', named), inflect),
    inputRules: rules.filter((r): r is Rule<InputCategory> =>
      (inputCategories as readonly string[]).includes(r.category),
    ),
    outputRules: rules.filter((r): r is Rule<OutputCategory> =>
      (outputCategories as readonly string[]).includes(r.category),
    ),
  }
}

type RuleEntry = z.infer<typeof ruleFile>['rules'][number]

function buildRule(category: string, rule: RuleEntry, index: (list: readonly string[]) => IndexedPattern): Rule {
  return {
    id: rule.id,
    category,
    severity: rule.severity,
    pattern: index(rule.patterns),
    subject: rule.subject ?? 'writer',
    ignore: new Set(rule.ignore ?? []),
    past: rule.past ?? 'any',
    unless: rule.unless ? index(rule.unless) : undefined,
  }
}

function parseList(list: readonly string[], inflect: Inflect): PatternNode {
  return parsePattern(`(${list.join('|')})`, inflect)
}

function checkNames(all: readonly PatternNode[], vocabulary: ReadonlyMap<string, PatternNode>): void {
  const unknown = new Set(all.flatMap(patternNames).filter((name) => !vocabulary.has(name)))
  if (unknown.size > 0)
    throw patternError([...unknown].map((n) => `@${n}`).join(', '), 'no such list in the vocabulary')
}

/** From "class: words" to "word: classes"; `~verb` stands for all of its forms. */
function invert(classes: Readonly<Record<string, readonly string[]>>, inflect: Inflect): Map<string, string[]> {
  const inverted = new Map<string, string[]>()
  for (const [name, lists] of Object.entries(classes)) {
    const words = lists.flatMap((list) => list.split('|'))
    const forms = words.flatMap((word) => (word.startsWith('~') ? inflect(word.slice(1)) : [word]))
    for (const form of new Set(forms)) inverted.set(form, [...(inverted.get(form) ?? []), name])
  }
  return inverted
}

function buildSpelling(
  file: z.infer<typeof spellingFile>,
  patternVocabulary: readonly string[],
  ordinaryWords: string,
): Spelling {
  const ordinary = readFileSync(ordinaryWords, 'utf8').split(/\s+/u)
  const expansions = new Map(Object.entries(file.expansions).map(([k, v]) => [k, v.split(' ')]))
  return {
    expansions,
    targets: [...new Set([...file.crisisWords, ...file.commonWords])],
    wideTargets: new Set(file.crisisWords),
    known: new Set([...file.crisisWords, ...file.commonWords, ...file.glueWords, ...patternVocabulary, ...ordinary]),
    glue: new Set([...file.glueWords, ...file.crisisWords]),
  }
}
