import { z } from 'zod'
import { mulberry32 } from './train.js'

/** Templates with slots from which practice sentences are drawn; they teach word order, the written sentences teach the rest. */
export const grammarSchema = z.strictObject({
  slots: z.record(z.string(), z.array(z.string())),
  groups: z.array(
    z.strictObject({
      direction: z.enum(['input', 'output']).optional(),
      category: z.string(),
      severity: z.enum(['none', 'concern', 'high', 'acute']),
      weight: z.int().positive(),
      persona: z.enum(['i', 'he', 'they']),
      templates: z.array(z.string()),
    }),
  ),
})
export type Grammar = z.infer<typeof grammarSchema>

export interface PracticeSentence {
  readonly direction: 'input' | 'output'
  readonly category: string
  readonly severity: 'none' | 'concern' | 'high' | 'acute'
  readonly text: string
}

const pronouns = { i: ['myself', 'my'], he: ['himself', 'his'], they: ['themselves', 'their'] } as const

/** Draws `weight` different sentences from each group (fewer if a group has not so many); the same seed gives the same ones. */
export function drawSentences(grammar: Grammar, seed = 7): PracticeSentence[] {
  const random = mulberry32(seed)
  const pick = (from: readonly string[]): string => from[Math.floor(random() * from.length)] ?? ''
  return grammar.groups.flatMap((group) => {
    const [reflexive, possessive] = pronouns[group.persona]
    const texts = new Set<string>()
    for (let tries = 0; tries < group.weight * 4 && texts.size < group.weight; tries += 1) {
      let text = pick(group.templates)
      for (let depth = 0; depth < 4 && text.includes('{'); depth += 1)
        text = text.replaceAll(/\{(\w+)\}/g, (_, slot: string) => pick(grammar.slots[slot] ?? []))
      texts.add(text.replaceAll('~R', reflexive).replaceAll('~P', possessive))
    }
    const { direction = 'input', category, severity } = group
    return [...texts].map((text) => ({ direction, category, severity, text }))
  })
}
