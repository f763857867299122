import type { LoraConfig } from './config.js'
import { parseEvidence } from './evidence.js'
import type { Evidence, EvidenceInput } from './evidence.js'
import { bullets, bytes, cell, duration, frontMatter, number, table, thin } from './markdown.js'
import { isHubId, portableModelName } from './model-id.js'

export interface CardOptions {
  /** Repository id, for the code that loads the adapter. */
  readonly repo: string
  readonly evidence: EvidenceInput
  readonly config: LoraConfig
}

const intendedUse = [
  'Research on, and development of, supportive conversation systems under the supervision of qualified people.',
  'Practising and studying active listening and reflective responses.',
]
const outOfScope = [
  'Diagnosis, treatment, prescription, or any other replacement of a qualified professional.',
  'Unsupervised use with people in crisis, with minors, or in emergencies.',
  'Decisions about a person: insurance, employment, custody, law enforcement, admission or discharge.',
]
const limitations = [
  'It can state falsehoods with confidence, miss signs of danger, agree too readily, and forget what was said earlier.',
  'It repeats the biases of its base model and of its training conversations; people, cultures and languages that they lack are served worst.',
  'Fluency is not empathy: it has no understanding of a person and no memory of them.',
  'Low loss on held-out conversations does not show that its answers are safe or helpful; it has not been tested in clinical use.',
]

/** The general notice on crises; it is part of every card. */
const crisisNotice =
  'This model is not a crisis service. If you or someone else may be in danger, contact your local emergency number or a crisis ' +
  'line now; https://findahelpline.com lists services by country. An application built on it must detect signs of crisis ' +
  'itself, show such contacts, and hand over to people.'

/** The card's front matter, in the keys that the Hub validates. */
function metadata(evidence: Evidence, base: string): string {
  const { purpose, data, baseModel } = evidence
  const tags = [
    'lora',
    'mirastral',
    'transformers',
    ...(evidence.quantization === null ? [] : ['qlora']),
    ...(data.kind === 'pairs' ? ['dpo'] : []),
    ...purpose.tags,
  ]
  const known = isHubId(base) ? [`base_model:adapter:${base}`] : []
  return frontMatter({
    base_model: isHubId(base) ? base : null,
    base_model_relation: isHubId(base) ? 'adapter' : null,
    datasets: data.datasets,
    language: data.languages,
    library_name: 'peft',
    license: purpose.license ?? baseModel.license,
    pipeline_tag: 'text-generation',
    tags: [...new Set([...known, ...tags])].sort(),
  })
}

function usage(repo: string, base: string): string {
  return `## How to use it

With MiraStral (TypeScript, no Python):

\`\`\`ts
import { downloadModel, openCheckpoint } from '@mirastral/models'
import { loadAdapter, modulesOfModel } from '@mirastral/lora'

const { folder } = await downloadModel(${JSON.stringify(base)})
const { parameters } = await openCheckpoint(folder)
const { adapter } = await loadAdapter('<a clone of this repository>', modulesOfModel(parameters))
\`\`\`

With PEFT:

\`\`\`python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(base)})
model = PeftModel.from_pretrained(base, ${JSON.stringify(repo)})
tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(base)})
\`\`\`

With Transformers alone (PEFT installed):

\`\`\`python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(${JSON.stringify(base)})
model.load_adapter(${JSON.stringify(repo)})
\`\`\``
}

function useAndRisks({ purpose }: Evidence): string {
  return `## In a crisis

${crisisNotice}${purpose.crisisContacts.length === 0 ? '' : `\n\n${bullets(purpose.crisisContacts)}`}

## Intended use

${bullets([...intendedUse, ...purpose.intendedUse])}

## Out of scope

${bullets([...outOfScope, ...purpose.outOfScope])}

## Bias, risks and limitations

${bullets([...limitations, ...purpose.limitations])}`
}

function dataSection({ data }: Evidence): string {
  const share = data.tokens === 0 ? 0 : data.trainedTokens / data.tokens
  const dropped = Object.entries(data.dropped).filter(([, n]) => n > 0)
  const what = data.kind === 'pairs' ? 'Pairs of a chosen and a rejected answer' : 'Conversations'
  const facts: (readonly [string, string])[] = [
    [`${what} trained on`, number(data.trainConversations)],
    [`${what} held out for evaluation`, number(data.evalConversations)],
    ['Tokens', number(data.tokens)],
    ['Tokens that carry loss (assistant turns)', `${number(data.trainedTokens)} (${(100 * share).toFixed(1)} %)`],
    ['Longest context, tokens', number(data.maxLength)],
    [`${what} cut to that length`, number(data.truncatedConversations)],
    ...dropped.map(([reason, n]) => [`Records left out: ${reason}`, number(n)] as const),
  ]
  const files = data.files.map((f) => [f.sha256, number(f.records), number(f.used)])
  return `## Training data

${table(['', ''], facts)}

The data themselves are not published here. Source files, by content:

${table(['SHA-256', 'records', 'used'], files)}`
}

function adapterFacts(evidence: Evidence, config: LoraConfig, base: string): (readonly [string, string])[] {
  const { baseModel, quantization, adapter } = evidence
  const targets = config.targetModules ?? []
  const share = (100 * adapter.trainableParameters) / Math.max(baseModel.parameters, 1)
  const quantized =
    quantization === null
      ? 'none'
      : `${quantization.type.toUpperCase()}, blocks of ${quantization.blockSize}${quantization.doubleQuant ? ', double quantization' : ''}`
  const variants = [config.useRslora ? 'rank-stabilised' : '', config.useDora ? 'DoRA' : ''].filter((v) => v !== '')
  return [
    ['Base model', base],
    ['Revision of the base model', baseModel.revision ?? 'not recorded'],
    ['Architecture', `${baseModel.modelType}, ${number(baseModel.parameters)} parameters`],
    ['Quantization of the base model while training', quantized],
    ['Adapter', ['LoRA', ...variants].join(', ')],
    ['Rank, alpha, dropout', `${config.r}, ${config.loraAlpha}, ${config.loraDropout}`],
    ['Target modules', typeof targets === 'string' ? targets : targets.join(', ')],
    ['Modules trained in full', config.modulesToSave?.join(', ') ?? 'none'],
    [
      'Trainable parameters',
      `${number(adapter.trainableParameters)} (${share.toFixed(3)} %) in ${number(adapter.adaptedModules)} modules`,
    ],
  ]
}

/** A setting that is a path of this machine is shown by its last part. */
function withoutFolders(value: string | boolean | null): string {
  const text = String(value)
  return /^(~?[/\\]|\.\.?[/\\]|[A-Za-z]:[/\\])/.test(text) ? portableModelName(text) : text
}

function procedure(evidence: Evidence, config: LoraConfig, base: string): string {
  const settings = Object.entries(evidence.hyperparameters).map(([name, value]) => [
    name,
    typeof value === 'number' ? number(value) : [value].flat().map(withoutFolders),
  ])
  return `## Training procedure

${table(['', ''], adapterFacts(evidence, config, base))}

### Settings

${table(['setting', 'value'], settings)}`
}

function resultsSection({ results, data }: Evidence): string {
  const isPairs = data.kind === 'pairs'
  const last = results.evalLoss.at(-1)
  const lastTrained = results.trainLoss.at(-1)
  const facts: (readonly [string, string])[] = [
    ['Optimizer steps', number(results.steps)],
    ['Epochs', number(results.epochs)],
    ...(lastTrained === undefined ? [] : [['Last training loss', number(lastTrained.loss)] as const]),
    ...(last === undefined ? [] : [['Last evaluation loss', number(last.loss)] as const]),
    // A loss per pair is none of tokens.
    ...(last === undefined || isPairs ? [] : [['Perplexity', number(Math.exp(last.loss))] as const]),
    ...(last?.tokenAccuracy === undefined
      ? []
      : [[isPairs ? 'Pairs ranked rightly' : 'Token accuracy', `${(100 * last.tokenAccuracy).toFixed(1)} %`] as const]),
    ...(results.bestStep === null ? [] : [['Weights are those of step', number(results.bestStep)] as const]),
    ['Steps skipped (loss or gradient not finite)', number(results.skippedSteps)],
  ]
  const curve = (points: readonly { step: number; loss: number }[]): string =>
    table(
      ['step', 'loss'],
      thin(points, 16).map((p) => [number(p.step), number(p.loss)]),
    )
  return [
    '## Results',
    table(['', ''], facts),
    ...(results.trainLoss.length === 0 ? [] : ['### Training loss', curve(results.trainLoss)]),
    ...(results.evalLoss.length === 0 ? [] : ['### Evaluation loss', curve(results.evalLoss)]),
  ].join('\n\n')
}

function running({ performance, environment, segments }: Evidence): string {
  const { peakMemoryBytes } = performance
  const facts: (readonly [string, string])[] = [
    ['Hardware', environment.hardware],
    ['Threads', environment.threads === null ? 'not recorded' : number(environment.threads)],
    ['Backend, precision', `${environment.backend}, ${environment.precision}`],
    ['Time', duration(performance.seconds)],
    ['Tokens per second', number(performance.tokensPerSecond)],
    ['Time per step', duration(performance.secondsPerStep)],
    ['Peak memory', peakMemoryBytes === null ? 'not recorded' : bytes(peakMemoryBytes)],
    ['Operating system, Node', `${environment.os}, ${environment.node}`],
    ...Object.entries(environment.packages).map(([name, version]) => [name, version] as const),
  ]
  const history = segments.map((s, i) => [i + 1, `${s.firstStep} to ${s.lastStep}`, duration(s.seconds), s.endedBy])
  const resumed =
    segments.length === 1
      ? 'The run was not interrupted.'
      : `The run was resumed ${segments.length - 1} ${segments.length === 2 ? 'time' : 'times'}.`
  return `## Speed, memory and environment

${table(['', ''], facts)}

### Segments

${resumed}

${table(['segment', 'steps', 'time', 'ended by'], history)}`
}

/**
 * The text of a model card (README.md) from a run's own records, with front matter that the Hub accepts.
 *
 * @throws LoraError MIRASTRAL_LORA_PUBLISH when the evidence is incomplete
 */
export function formatModelCard({ repo, evidence: input, config }: CardOptions): string {
  const evidence = parseEvidence(input)
  const base = portableModelName(evidence.baseModel.id)
  const title = evidence.purpose.title ?? repo.slice(repo.lastIndexOf('/') + 1)
  const summary = evidence.purpose.summary ?? 'A LoRA adapter for supportive conversations.'
  const sections = [
    `# ${cell(title)}`,
    `${cell(summary)} It was fine-tuned from ${cell(base)} with MiraStral.`,
    useAndRisks(evidence),
    usage(repo, base),
    dataSection(evidence),
    procedure(evidence, config, base),
    resultsSection(evidence),
    running(evidence),
  ]
  return `${metadata(evidence, base)}\n${sections.join('\n\n')}\n`
}
