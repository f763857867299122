import { z } from 'zod'
import { checkForm, readPackageData } from '../package-data.js'
import { resourceKinds } from './resources.js'
import { inputCategories, outputCategories } from './types.js'

const thresholds = z.strictObject({
  alarm: z.number().min(0).max(1),
  acute: z.number().min(0).max(1),
  concern: z.number().min(0).max(1),
  doubt: z.number().min(0).max(1),
})

/**
 * respond: a written message takes the place of the model's answer. support: the model answers under a stricter prompt and
 * the person sees where to turn to. check-in: the model answers under a stricter prompt. allow: nothing changes.
 */
const inputAction = z.strictObject({
  action: z.enum(['respond', 'support', 'check-in', 'allow']),
  /** Id in `messages`, for respond. */
  message: z.string().optional(),
  /** Id in `prompts`, for support and check-in. */
  prompt: z.string().optional(),
  /** Id in `notices`, for support and respond; a respond shows its resources in the message as well. */
  notice: z.string().optional(),
  resources: z.array(z.enum(resourceKinds)).default([]),
  escalate: z.boolean().default(false),
})
export type InputAction = z.infer<typeof inputAction>

const outputAction = z.strictObject({
  action: z.enum(['block', 'allow']),
  message: z.string().optional(),
  resources: z.array(z.enum(resourceKinds)).default([]),
  escalate: z.boolean().default(false),
})
export type OutputAction = z.infer<typeof outputAction>

const texts = z.record(z.string(), z.string().min(1))

const policyShape = z.strictObject({
  version: z.string().min(1),
  recognition: z.strictObject({ input: thresholds, output: thresholds }),
  input: z.record(z.enum(inputCategories), z.record(z.enum(['concern', 'high', 'acute']), inputAction)),
  output: z.record(z.enum(outputCategories), outputAction),
  disclosure: z.strictObject({
    /** Shown with the first answer of a conversation; empty: not shown. */
    atStart: z.string(),
    /** Begins the answer to the question whether this is a person. */
    whenAsked: z.string().min(1),
    prompt: z.string().min(1),
  }),
  /** After an alarm, this many further messages of the person are answered under `prompts.watchful`. */
  watchfulTurns: z.int().min(0).max(100),
  messages: texts,
  notices: texts,
  prompts: texts,
})

const policyFile = policyShape.superRefine((policy, context) => {
  const need = (path: string[], table: 'messages' | 'notices' | 'prompts', id: string | undefined): void => {
    if (id === undefined || !(id in policy[table]))
      context.addIssue({ code: 'custom', path, message: `must name an entry of ${table}, got ${id ?? 'nothing'}` })
  }
  for (const [category, levels] of Object.entries(policy.input))
    for (const [level, rule] of Object.entries(levels)) {
      const path = ['input', category, level]
      if (rule.action === 'respond') need(path, 'messages', rule.message)
      if (rule.action === 'support' || rule.action === 'check-in') need(path, 'prompts', rule.prompt)
      if (rule.action === 'support' || rule.notice !== undefined) need(path, 'notices', rule.notice)
    }
  for (const [category, rule] of Object.entries(policy.output))
    if (rule.action === 'block') need(['output', category], 'messages', rule.message)
  need(['prompts'], 'prompts', policy.watchfulTurns > 0 ? 'watchful' : Object.keys(policy.prompts)[0])
  need(['notices'], 'notices', 'blocked')
})
export type GuardPolicy = z.infer<typeof policyFile>

/**
 * The policy that comes with the package, or the one given.
 * @throws InferError MIRASTRAL_INFER_GUARD naming every problem.
 */
export function loadPolicy(value?: unknown): GuardPolicy {
  if (value !== undefined) return checkForm(value, 'guard: policy', policyFile, 'MIRASTRAL_INFER_GUARD')
  return readPackageData('guard/policy.json', policyFile, 'MIRASTRAL_INFER_GUARD')
}
