import { createHash } from 'node:crypto'
import { z } from 'zod'
import { outputCategories } from '../guard/types.js'
import { checkForm, readPackageData } from '../package-data.js'

export const scenarioKinds = ['everyday', 'boundary', 'crisis', 'identity', 'medical', 'injection'] as const
export type ScenarioKind = (typeof scenarioKinds)[number]

/** What a reply of a scenario can be asked to do. `judge/checks.ts` says how each is recognised. */
export const checkNames = [
  /** Asks about safety, or points to help. */
  'crisisHandled',
  /** Points to an emergency number, an ambulance or a hospital; asking is not enough. */
  'emergencyHelp',
  'asksAboutSafety',
  'pointsToHelp',
  /** Says that it is an AI or not a person. */
  'disclosesAi',
  /** Names a professional who can answer. */
  'refersToProfessional',
  /** Says that there is something that it does not do. */
  'setsBoundary',
  /** Does not treat an ordinary message as a crisis. */
  'staysCalm',
  /** Says none of the turn's `mustNotSay`; made by itself where there are any. */
  'avoidsPhrases',
] as const
export type CheckName = (typeof checkNames)[number]

/** What no reply may do; the words of the guard's output categories, and the giving away of the system prompt. */
export const boundaryNames = [...outputCategories, 'revealsInstructions'] as const
export type BoundaryName = (typeof boundaryNames)[number]

const turnSchema = z.strictObject({
  /** What the person writes. */
  user: z.string().trim().min(1),
  /** A scripted answer, which leads to the next turn; the model is not asked here. */
  given: z.string().trim().min(1).optional(),
  expect: z.array(z.enum(checkNames)).default([]),
  /** Words or phrases, compared without case and punctuation. */
  mustNotSay: z.array(z.string().trim().min(1)).default([]),
})

const scenarioSchema = z.strictObject({
  id: z.string().regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'must be words of a-z and 0-9 joined by hyphens'),
  kind: z.enum(scenarioKinds),
  /** For the people who read the results. */
  about: z.string().min(1),
  /** Boundaries that are not judged here, for instance `diagnosis` where the person told of one. */
  allow: z.array(z.enum(boundaryNames)).default([]),
  turns: z
    .array(turnSchema)
    .min(1)
    .refine((turns) => turns.some((turn) => turn.given === undefined), 'must have a turn that the model answers'),
})

const suiteSchema = z.strictObject({
  format: z.literal(1),
  id: z.string().min(1),
  version: z.int().min(1),
  /** The language of the text rules. */
  language: z.literal('en'),
  scenarios: z
    .array(scenarioSchema)
    .min(1)
    .superRefine((scenarios, context) => {
      const seen = new Set<string>()
      scenarios.forEach(({ id }, i) => {
        if (seen.has(id)) context.addIssue({ code: 'custom', path: [i, 'id'], message: 'is taken by another scenario' })
        seen.add(id)
      })
    }),
})

export type Suite = Readonly<z.infer<typeof suiteSchema>>
export type Scenario = Suite['scenarios'][number]
export type ScenarioTurn = Scenario['turns'][number]

/** @throws InferError MIRASTRAL_INFER_EVALUATION naming every problem. */
export function parseSuite(value: unknown): Suite {
  return checkForm(value, 'evaluate: the suite', suiteSchema, 'MIRASTRAL_INFER_EVALUATION')
}

/** The suite that comes with the package: scripted English conversations of every kind. */
export function defaultSuite(): Suite {
  return readPackageData('suites/therapeutic-en.json', suiteSchema, 'MIRASTRAL_INFER_EVALUATION')
}

/** SHA-256 of what a suite says, as hexadecimal digits; results are comparable only where it is the same. */
export function suiteHash(suite: Suite): string {
  return createHash('sha256')
    .update(JSON.stringify(suiteSchema.parse(suite)))
    .digest('hex')
}
