import {
  InferError,
  SafetyGuard,
  findResources,
  formatResources,
  loadPolicy,
  loadResources,
  resourceKinds,
} from '@mirastral/infer'
import type { GuardPolicy, InputCategory } from '@mirastral/infer'
import { describe, expect, it } from 'vitest'

const said = (content: string) => [{ role: 'user' as const, content }]
const crisis = 'I am going to kill myself tonight.'
const policy = loadPolicy()

/** The package's policy with another rule for one kind of finding. */
function withRule(category: InputCategory, level: 'concern' | 'high' | 'acute', rule: object): GuardPolicy {
  const changed = structuredClone(policy) as GuardPolicy & { input: Record<string, Record<string, object>> }
  Object.assign(changed.input[category] ?? {}, { [level]: rule })
  return changed
}

describe('the policy', () => {
  it('names an action for every category and severity', () => {
    for (const levels of Object.values(policy.input))
      expect(Object.keys(levels).sort()).toEqual(['acute', 'concern', 'high'])
    expect(Object.keys(policy.output)).toHaveLength(6)
  })

  it('respond: a written message with resources takes the place of the model', async () => {
    const decision = await SafetyGuard.load({ country: 'US' }).checkInput(said(crisis))
    expect(decision).toMatchObject({ action: 'respond', notice: { category: 'suicide', severity: 'acute' } })
    expect(decision.action === 'respond' && decision.text).toContain('988')
    expect(decision.notice?.resources.length).toBeGreaterThan(0)
  })

  it('knows the help lines of a country that the directory has, and names those that it has', () => {
    const help = SafetyGuard.load({ country: 'gb' }).help
    expect(help.map((r) => r.phone)).toContain('116 123')
    expect(help.map((r) => r.text)).toContain('SHOUT to 85258')
    expect(SafetyGuard.load().help).toEqual([])
    expect(() => SafetyGuard.load({ country: 'XX' })).toThrow(/no help lines for XX; known are AT, AU, /)
  })

  it('support: the model answers under a stricter prompt and the person sees where to turn to', async () => {
    const rule = { action: 'support', prompt: 'suicide', notice: 'suicide', resources: ['suicide'] }
    const guard = SafetyGuard.load({ policy: withRule('suicide', 'acute', rule), country: 'GB' })
    const decision = await guard.checkInput(said(crisis))
    expect(decision).toMatchObject({
      action: 'answer',
      instructions: policy.prompts.suicide,
      notice: { category: 'suicide', text: policy.notices.suicide },
    })
    expect(decision.notice?.resources.some((r) => r.phone === '116 123')).toBe(true)
  })

  it('check-in: only the prompt changes', async () => {
    const guard = SafetyGuard.load({ policy: withRule('suicide', 'acute', { action: 'check-in', prompt: 'check-in' }) })
    const decision = await guard.checkInput([{ role: 'assistant', content: 'Hello.' }, ...said(crisis)])
    expect(decision).toEqual({ action: 'answer', instructions: policy.prompts['check-in'] })
  })

  it('allow: nothing changes', async () => {
    const guard = SafetyGuard.load({ policy: withRule('suicide', 'acute', { action: 'allow' }) })
    const decision = await guard.checkInput([{ role: 'assistant', content: 'Hello.' }, ...said(crisis)])
    expect(decision).toEqual({ action: 'answer' })
  })

  it('block, or allow, what a model says', () => {
    const unsafe = 'You should take 40 mg of fluoxetine a day.'
    expect(SafetyGuard.load().assessOutput(unsafe)[0]?.category).toBe('medication')
    const lenient = structuredClone(policy)
    lenient.output.medication.action = 'allow'
    expect(SafetyGuard.load({ policy: lenient }).assessOutput(unsafe)).toEqual([])
  })

  it('refuses a rule whose message, prompt or notice is missing, and names it', () => {
    const refused = (rule: object, what: string): void => {
      const load = (): GuardPolicy => loadPolicy(withRule('abuse', 'high', rule))
      expect(load).toThrow(InferError)
      expect(load).toThrow(`input.abuse.high: must name an entry of ${what}, got nowhere`)
    }
    refused({ action: 'respond', message: 'nowhere' }, 'messages')
    refused({ action: 'check-in', prompt: 'nowhere' }, 'prompts')
    refused({ action: 'support', prompt: 'suicide', notice: 'nowhere' }, 'notices')
  })

  it('refuses a policy without a category, and one with unknown words', () => {
    const { abuse: _, ...rest } = policy.input
    expect(() => loadPolicy({ ...policy, input: rest })).toThrow('guard: policy')
    expect(() => loadPolicy({ ...policy, surprise: 1 })).toThrow('guard: policy')
  })
})

describe('the resources', () => {
  const directory = loadResources()

  it('have a source, a month and a kind in every entry of every country', () => {
    const all = [...directory.default, ...Object.values(directory.countries).flat()]
    expect(Object.keys(directory.countries).length).toBeGreaterThan(5)
    for (const entry of all) {
      expect(entry.source).toMatch(/^https:\/\//)
      expect(entry.asOf).toMatch(/^20\d\d-\d\d$/)
      expect(resourceKinds).toContain(entry.kind)
      expect(entry.phone ?? entry.text ?? entry.url ?? entry.description).toBeTruthy()
    }
  })

  it('fall back to the default for an unknown country and for a kind that a country lacks', () => {
    const fallback = findResources(directory, undefined, ['suicide'])
    expect(fallback.length).toBeGreaterThan(0)
    expect(findResources(directory, 'XX', ['suicide'])).toEqual(fallback)
    expect(findResources({ ...directory, countries: { QQ: [] } }, 'qq', ['emergency', 'suicide'])).toEqual(
      findResources(directory, undefined, ['emergency', 'suicide']),
    )
  })

  it('refuse an entry without a source', () => {
    const [first] = directory.default
    const { source: _, ...without } = { ...first }
    expect(() => loadResources({ ...directory, default: [without, ...directory.default] })).toThrow('default.0.source')
  })

  it('are written one to a line', () => {
    const lines = formatResources(findResources(directory, 'US', ['suicide', 'emergency'])).split('\n')
    expect(lines.length).toBeGreaterThan(1)
    for (const line of lines) expect(line).toMatch(/^- \S/)
  })
})
