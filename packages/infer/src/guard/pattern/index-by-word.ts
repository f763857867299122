import type { PatternNode } from './parse.js'

/** Alternatives of a pattern by the words that they can begin with; `always` holds those that can begin with any word. */
export interface IndexedPattern {
  readonly byWord: ReadonlyMap<string, readonly PatternNode[]>
  readonly always: readonly PatternNode[]
}

type Lists = ReadonlyMap<string, PatternNode>

/** What a pattern can begin with: words, or anything; and whether it can match nothing at all. */
interface Beginning {
  readonly words: ReadonlySet<string>
  readonly any: boolean
  readonly nullable: boolean
}

const anything: Beginning = { words: new Set(), any: true, nullable: false }

/** Finds what each alternative can begin with, so that matching tries only those that the word at hand allows. */
export function indexByWord(node: PatternNode, lists: Lists): IndexedPattern {
  const byWord = new Map<string, PatternNode[]>()
  const always: PatternNode[] = []
  for (const option of node.kind === 'choice' ? node.options : [node]) {
    const beginning = beginningOf(option, lists, new Set())
    if (beginning.any || beginning.nullable) always.push(option)
    else
      for (const word of beginning.words) {
        const known = byWord.get(word)
        if (known) known.push(option)
        else byWord.set(word, [option])
      }
  }
  return { byWord, always }
}

/** Whether the pattern can match without any word, which is a mistake in a rule. */
export function canMatchNothing(node: PatternNode, lists: Lists): boolean {
  return beginningOf(node, lists, new Set()).nullable
}

function beginningOf(node: PatternNode, lists: Lists, open: ReadonlySet<string>): Beginning {
  switch (node.kind) {
    case 'words':
      return { words: node.words, any: false, nullable: false }
    case 'number':
      return anything
    case 'gap':
    case 'clauseStart':
    case 'clauseEnd':
    case 'not':
      return { ...anything, any: node.kind === 'gap', nullable: true }
    case 'optional':
      return { ...beginningOf(node.item, lists, open), nullable: true }
    case 'name': {
      const list = lists.get(node.name)
      return list && !open.has(node.name) ? beginningOf(list, lists, new Set([...open, node.name])) : anything
    }
    case 'choice':
      return union(node.options.map((option) => beginningOf(option, lists, open)))
    case 'sequence': {
      const items = node.items.map((item) => beginningOf(item, lists, open))
      const firstFirm = items.findIndex((item) => !item.nullable)
      const leading = union(firstFirm === -1 ? items : items.slice(0, firstFirm + 1))
      return { ...leading, nullable: firstFirm === -1 }
    }
  }
}

function union(all: readonly Beginning[]): Beginning {
  return {
    words: new Set(all.flatMap((b) => [...b.words])),
    any: all.some((b) => b.any),
    nullable: all.some((b) => b.nullable),
  }
}
