import { z } from 'zod'
import { InferError, listProblems } from '../errors.js'
import { readPackageData } from '../package-data.js'

const techniquePromptSchema = z.strictObject({
  id: z.string().regex(/^[a-z][a-z-]*$/),
  /** The edition in which this text came in; it holds until an entry of the same id with a higher version. */
  version: z.int().min(1),
  /** `before` and `after` frame every composed prompt; `chosen` ones are taken when asked for. */
  place: z.enum(['before', 'chosen', 'after']),
  technique: z.string().min(1),
  purpose: z.string().min(1),
  text: z.string().min(1),
})

/** One part of a system prompt. */
export type TechniquePrompt = Readonly<z.infer<typeof techniquePromptSchema>>

export interface TechniquePromptOptions {
  /** The edition of the texts, so that a prompt can be made again later. Default: the newest. */
  readonly version?: number
}

const allPrompts = (): readonly TechniquePrompt[] =>
  readPackageData('prompts/techniques.json', z.array(techniquePromptSchema).min(1), 'MIRASTRAL_INFER_OPTION')

/**
 * The parts as they stood in one edition, in the order of the data file: for each id the newest text that is not newer than
 * the edition.
 */
export function promptsOfVersion(
  prompts: readonly TechniquePrompt[],
  version = newestVersion(prompts),
): readonly TechniquePrompt[] {
  const newest = newestVersion(prompts)
  if (!Number.isInteger(version) || version < 1 || version > newest) {
    const message = `techniquePrompt: version must be a whole number from 1 to ${newest}, got ${version}`
    throw new InferError('MIRASTRAL_INFER_OPTION', message)
  }
  const current = new Map<string, TechniquePrompt>()
  for (const prompt of prompts) {
    const known = current.get(prompt.id)
    if (prompt.version <= version && prompt.version > (known?.version ?? 0)) current.set(prompt.id, prompt)
  }
  return [...current.values()]
}

const newestVersion = (prompts: readonly TechniquePrompt[]): number => Math.max(...prompts.map((p) => p.version))

/**
 * Every part of an edition, the framing ones (`role`, `safety`) included.
 * @throws InferError MIRASTRAL_INFER_OPTION for an edition that does not exist.
 */
export function techniquePrompts(options: TechniquePromptOptions = {}): readonly TechniquePrompt[] {
  return promptsOfVersion(allPrompts(), options.version)
}

/** The newest edition of the texts. */
export const latestPromptVersion = (): number => newestVersion(allPrompts())

/**
 * One system prompt: what the assistant is, the techniques in the order given, and what to do in a crisis. Without
 * techniques it is the frame alone.
 * @param ids techniques such as `reflection` and `open-questions`; `techniquePrompts()` lists them (`place: 'chosen'`).
 * @throws InferError MIRASTRAL_INFER_OPTION for unknown or repeated ids and for an edition that does not exist.
 */
export function techniquePrompt(ids: readonly string[], options: TechniquePromptOptions = {}): string {
  const prompts = techniquePrompts(options)
  const choices = new Map(prompts.filter((p) => p.place === 'chosen').map((p) => [p.id, p]))
  const problems = [
    ...ids.filter((id) => !choices.has(id)).map((id) => `unknown ${JSON.stringify(id)}`),
    ...ids.filter((id, i) => choices.has(id) && ids.indexOf(id) !== i).map((id) => `${JSON.stringify(id)} twice`),
  ]
  if (problems.length > 0) {
    const rule = `techniquePrompt: ids must be different ones of ${[...choices.keys()].join(', ')}`
    throw new InferError('MIRASTRAL_INFER_OPTION', listProblems(rule, problems))
  }
  const chosen = ids.flatMap((id) => choices.get(id) ?? [])
  const framing = (place: TechniquePrompt['place']): TechniquePrompt[] => prompts.filter((p) => p.place === place)
  return [...framing('before'), ...chosen, ...framing('after')].map((p) => p.text).join('\n\n')
}
