import { join } from 'node:path'
import type { Turn } from '@mirastral/data'
import type { ConversationGuard, InputDecision, OutputStep, OutputWatch } from '../conversation-guard.js'
import type { HelpResource, Notice } from '../text-generator.js'
import { loadNetwork } from './classifier/network-file.js'
import { affirmedDanger, hasCue, personTexts } from './conversation.js'
import { packageDataFolder } from '../package-data.js'
import { loadLanguage } from './language.js'
import type { Language } from './language.js'
import { SentenceWatch } from './output-watch.js'
import { loadPolicy } from './policy.js'
import type { GuardPolicy, InputAction } from './policy.js'
import { Recognizer } from './recognise.js'
import {
  checkCountry,
  findResources,
  formatResources,
  helpResources,
  loadResources,
  resourceKinds,
} from './resources.js'
import type { ResourceDirectory, ResourceKind } from './resources.js'
import type { SecondOpinion } from './second-opinion.js'
import { highestSeverity, inputCategories, isAlarm, outputCategories, severityRank } from './types.js'
import type { InputFinding, OutputCategory, OutputFinding, Severity } from './types.js'

/** What the person who supervises the conversations is told. Nothing in it is logged by the guard. */
export interface Escalation {
  readonly direction: 'input' | 'output'
  readonly category: string
  readonly severity: Severity
  readonly findings: readonly (InputFinding | OutputFinding)[]
  readonly at: Date
  /** What was written. Give it to nobody but the supervising professional. */
  readonly text: string
}

export interface SafetyGuardOptions {
  /** ISO 3166 code of the country whose resources are shown, one that they have; without it the default ones. */
  readonly country?: string
  /** In place of `data/guard/policy.json`: the same form, already parsed. */
  readonly policy?: unknown
  /** In place of `data/guard/resources.json`. */
  readonly resources?: unknown
  /** Called for findings that the policy escalates. The answer does not wait for it; what it throws goes to `onEscalationError`. */
  readonly onEscalate?: (escalation: Escalation) => void | Promise<void>
  readonly onEscalationError?: (error: unknown) => void
  readonly secondOpinion?: SecondOpinion
  /** Told when the second opinion could not be had; the guard went by its own findings. */
  readonly onSecondOpinionError?: (error: unknown) => void
}

/** What the guard found in a text of the person. */
export interface InputAssessment {
  readonly severity: Severity
  /** Severity high or acute. */
  readonly alarm: boolean
  /** The worst first. */
  readonly findings: readonly InputFinding[]
  /** The person asks whether this is a human being. */
  readonly asksIfHuman: boolean
}

interface Parts {
  readonly language: Language
  readonly policy: GuardPolicy
  readonly resources: ResourceDirectory
  readonly input: Recognizer<InputFinding['category']>
  readonly output: Recognizer<OutputCategory>
}

/**
 * The guard that comes with the package: recognises crises in what a person writes and harm in what a model answers, and
 * acts by a policy that is plain data. It lives outside the model, so no prompt can switch it off. Any guard misses some
 * crises and raises some false alarms: `bench/guard.ts` measures how many.
 */
export class SafetyGuard implements ConversationGuard {
  readonly #parts: Parts
  readonly #options: SafetyGuardOptions

  private constructor(parts: Parts, options: SafetyGuardOptions) {
    this.#parts = parts
    this.#options = options
  }

  /**
   * Reads rules, classifiers, policy and resources.
   * @throws InferError MIRASTRAL_INFER_GUARD naming what is wrong with a file or a value.
   */
  static load(options: SafetyGuardOptions = {}): SafetyGuard {
    const language = loadLanguage('en')
    const policy = loadPolicy(options.policy)
    const folder = join(packageDataFolder(), 'guard', language.code)
    const input = new Recognizer(language, {
      rules: language.inputRules,
      categories: inputCategories,
      classifier: loadNetwork(join(folder, 'input-network.bin')),
      thresholds: policy.recognition.input,
    })
    const output = new Recognizer(language, {
      rules: language.outputRules,
      categories: outputCategories,
      classifier: loadNetwork(join(folder, 'output-network.bin')),
      thresholds: policy.recognition.output,
      wordsPerWindow: 40,
    })
    const resources = loadResources(options.resources)
    const country = options.country === undefined ? {} : { country: checkCountry(resources, options.country) }
    return new SafetyGuard({ language, policy, resources, input, output }, { ...options, ...country })
  }

  get help(): readonly HelpResource[] {
    const { country } = this.#options
    if (country === undefined) return []
    return helpResources(findResources(this.#parts.resources, country, resourceKinds))
  }

  /** What one text of a person calls for, by itself. */
  assess(text: string): InputAssessment {
    const findings = this.#parts.input.recognize(text)
    const severity = highestSeverity(findings.map((f) => f.severity))
    return {
      severity,
      alarm: isAlarm(severity),
      findings,
      asksIfHuman: hasCue(text, 'ASKS_IF_HUMAN', this.#parts.language),
    }
  }

  /** What must not be shown of a model's text; empty if it is safe. */
  assessOutput(text: string): OutputFinding[] {
    const { output, policy } = this.#parts
    return output.recognize(text).filter((f) => isAlarm(f.severity) && policy.output[f.category].action === 'block')
  }

  async checkInput(turns: readonly Turn[], signal?: AbortSignal): Promise<InputDecision> {
    const [text = '', ...earlier] = personTexts(turns, 1 + this.#parts.policy.watchfulTurns)
    const assessment = this.assess(text)
    const findings = [
      ...assessment.findings,
      ...this.#fromConversation(turns, text, earlier),
      ...(await this.#opinion(text, signal)),
    ]
    const worst = findings.reduce<InputFinding | undefined>(
      (a, b) => (a && severityRank(a.severity) >= severityRank(b.severity) ? a : b),
      undefined,
    )
    if (worst) this.#escalate('input', worst, findings, text)
    const decision = worst ? this.#act(worst) : { action: 'answer' as const }
    if (decision.action === 'respond') return decision
    return this.#disclosed(this.#watchful(decision, worst, earlier), assessment.asksIfHuman, turns)
  }

  watchOutput(_turns: readonly Turn[]): OutputWatch {
    return new SentenceWatch({
      unsafe: (text) => this.assessOutput(text),
      ending: (findings) => this.#endingFor(findings),
    })
  }

  /** Findings that only the conversation gives: a "yes" to a question about danger, a message divided into two. */
  #fromConversation(turns: readonly Turn[], text: string, earlier: readonly string[]): InputFinding[] {
    const affirmed = affirmedDanger(turns, this.#parts.language)
    const [before = ''] = earlier
    if (before.length === 0 || before.length > 80 || text.length > 80) return affirmed ? [affirmed] : []
    const offset = before.length + 1
    const joined = this.#parts.input
      .recognize(`${before} ${text}`)
      .filter(
        (f) => isAlarm(f.severity) && f.source !== 'classifier' && f.evidence.start < offset && f.evidence.end > offset,
      )
      .map((f) => ({ ...f, source: 'conversation', evidence: { start: 0, end: Math.max(0, f.evidence.end - offset) } }))
    return affirmed ? [affirmed, ...joined] : joined
  }

  async #opinion(text: string, signal?: AbortSignal): Promise<readonly InputFinding[]> {
    if (!this.#options.secondOpinion) return []
    try {
      return await this.#options.secondOpinion.judge(text, signal)
    } catch (error) {
      signal?.throwIfAborted()
      this.#options.onSecondOpinionError?.(error)
      return []
    }
  }

  #act(finding: InputFinding): InputDecision {
    const { policy, resources } = this.#parts
    const level = finding.severity === 'none' ? undefined : finding.severity
    const rule: InputAction | undefined = level && policy.input[finding.category][level]
    if (!rule || rule.action === 'allow') return { action: 'answer' }
    if (rule.action === 'check-in') return { action: 'answer', instructions: policy.prompts[rule.prompt ?? ''] ?? '' }
    const places = findResources(resources, this.#options.country, rule.resources)
    const notice = { category: finding.category, severity: finding.severity, resources: helpResources(places) }
    if (rule.action === 'support') {
      const text = policy.notices[rule.notice ?? ''] ?? ''
      return { action: 'answer', instructions: policy.prompts[rule.prompt ?? ''] ?? '', notice: { ...notice, text } }
    }
    const text = fill(policy.messages[rule.message ?? ''] ?? '', formatResources(places))
    return { action: 'respond', text, notice: { ...notice, text: policy.notices[rule.notice ?? ''] ?? '' } }
  }

  /** After an alarm the next answers stay attentive to it. */
  #watchful(decision: InputDecision, worst: InputFinding | undefined, earlier: readonly string[]): InputDecision {
    if (decision.action !== 'answer' || (worst && isAlarm(worst.severity))) return decision
    if (!earlier.some((text) => this.assess(text).alarm)) return decision
    return { ...decision, instructions: join2(decision.instructions, this.#parts.policy.prompts.watchful) }
  }

  #disclosed(decision: InputDecision, asked: boolean, turns: readonly Turn[]): InputDecision {
    if (decision.action !== 'answer') return decision
    const { disclosure } = this.#parts.policy
    const first = !turns.some((turn) => turn.role === 'assistant')
    const text = asked ? disclosure.whenAsked : first ? disclosure.atStart : ''
    const notice: Notice | undefined =
      decision.notice ?? (text === '' ? undefined : { category: 'disclosure', severity: 'none', text, resources: [] })
    return {
      action: 'answer',
      ...(decision.instructions || asked
        ? { instructions: join2(asked ? disclosure.prompt : undefined, decision.instructions) }
        : {}),
      ...(notice ? { notice } : {}),
    }
  }

  #endingFor(findings: readonly OutputFinding[]): NonNullable<OutputStep['ending']> {
    const { policy, resources } = this.#parts
    const [worst] = findings
    if (!worst) return { text: '' }
    const rule = policy.output[worst.category]
    if (rule.escalate) this.#escalate('output', worst, findings, '')
    const kinds: readonly ResourceKind[] = rule.resources
    const places = findResources(resources, this.#options.country, kinds)
    const text = fill(policy.messages[rule.message ?? ''] ?? '', formatResources(places))
    const notice = {
      category: worst.category,
      severity: worst.severity,
      text: policy.notices.blocked ?? '',
      resources: helpResources(places),
    }
    return { text, notice }
  }

  #escalate(
    direction: 'input' | 'output',
    worst: InputFinding | OutputFinding,
    findings: readonly (InputFinding | OutputFinding)[],
    text: string,
  ): void {
    const { onEscalate, onEscalationError } = this.#options
    if (!onEscalate || !this.#isEscalated(direction, worst)) return
    const event = { direction, category: worst.category, severity: worst.severity, findings, at: new Date(), text }
    Promise.resolve()
      .then(() => onEscalate(event))
      .catch((error: unknown) => onEscalationError?.(error))
  }

  #isEscalated(direction: 'input' | 'output', worst: InputFinding | OutputFinding): boolean {
    if (direction === 'output') return true
    const { category, severity } = worst as InputFinding
    return severity !== 'none' && this.#parts.policy.input[category][severity].escalate
  }
}

function fill(message: string, resources: string): string {
  return message.replaceAll('{resources}', resources)
}

function join2(first: string | undefined, second: string | undefined): string {
  return [first, second].filter((part) => part !== undefined && part !== '').join('\n\n')
}
