import { z } from 'zod'
import { LoraError, listProblems } from './errors.js'

const count = z.int().nonnegative()
const amount = z.number().nonnegative()
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')
/** One line: evidence goes into tables and front matter. */
const line = z
  .string()
  .min(1)
  .max(500)
  .regex(/^[^\r\n]*$/, 'must be one line')
const lines = z.array(line)

const baseModel = z.strictObject({
  /** Hub id (`owner/name`), or the name of a local folder. */
  id: line,
  /** Commit of the Hub repository. */
  revision: line.nullable().default(null),
  /** Hugging Face's `model_type`. */
  modelType: line,
  parameters: count,
  /** The base model's licence, in the Hub's identifiers. */
  license: line.nullable().default(null),
})

const quantization = z.strictObject({
  type: z.enum(['nf4', 'fp4']),
  blockSize: count,
  doubleQuant: z.boolean(),
})

const adapter = z.strictObject({
  trainableParameters: count,
  /** Modules that carry a LoRA pair. */
  adaptedModules: count,
})

const dataFile = z.strictObject({
  /** SHA-256 of the file's bytes; names stay private. */
  sha256,
  records: count,
  used: count,
})

const data = z.strictObject({
  /** What was trained on: conversations, or pairs of a chosen and a rejected answer. */
  kind: z.enum(['conversations', 'pairs']).default('conversations'),
  files: z.array(dataFile),
  /** Conversations (pairs) trained on, and those held out for evaluation. */
  trainConversations: count,
  evalConversations: count,
  /** Records left out, by reason. */
  dropped: z.record(line, count).default({}),
  /** All tokens of the training conversations, and those that carry loss. */
  tokens: count,
  trainedTokens: count,
  maxLength: count,
  truncatedConversations: count.default(0),
  /** Hub ids of data sets, where the data are published. */
  datasets: lines.default([]),
  /** ISO 639-1 codes. */
  languages: lines.default([]),
})

const lossPoint = z.strictObject({ step: count, loss: z.number() })

const evalPoint = z.strictObject({
  step: count,
  loss: z.number(),
  tokenAccuracy: z.number().min(0).max(1).optional(),
})

const results = z.strictObject({
  steps: count,
  epochs: amount,
  trainLoss: z.array(lossPoint),
  evalLoss: z.array(evalPoint).default([]),
  /** The step whose weights these are, where it is not the last. */
  bestStep: count.nullable().default(null),
  /** Steps skipped because a loss or gradient was not finite. */
  skippedSteps: count.default(0),
})

const performance = z.strictObject({
  seconds: amount,
  tokensPerSecond: amount,
  secondsPerStep: amount,
  peakMemoryBytes: count.nullable().default(null),
})

const environment = z.strictObject({
  /** Processor or accelerator. */
  hardware: line,
  threads: count.nullable().default(null),
  backend: line,
  precision: line,
  os: line,
  node: line,
  /** Package versions, by name. */
  packages: z.record(line, line).default({}),
})

const segment = z.strictObject({
  firstStep: count,
  lastStep: count,
  seconds: amount,
  /** Why it ended: `finished`, `time budget`, `SIGTERM`, ... */
  endedBy: line,
})

const purpose = z.strictObject({
  /** Shown as the heading; the repository's name unless told. */
  title: line.optional(),
  summary: line.optional(),
  license: line.optional(),
  intendedUse: lines.default([]),
  outOfScope: lines.default([]),
  limitations: lines.default([]),
  tags: lines.default([]),
  /** Where people in distress can turn; added to the general notice. */
  crisisContacts: lines.default([]),
})

const schema = z.strictObject({
  baseModel,
  quantization: quantization.nullable(),
  adapter,
  /** Every setting of the run by name, as it was used. */
  hyperparameters: z.record(line, z.union([z.string().max(500), z.number(), z.boolean(), z.null(), lines])),
  data,
  results,
  performance,
  environment,
  /** One entry per start of the program; more than one means that the run was resumed. */
  segments: z.array(segment).min(1),
  purpose: purpose.default({
    intendedUse: [],
    outOfScope: [],
    limitations: [],
    tags: [],
    crisisContacts: [],
  }),
})

/** What is known of a run, from its own records; the model card says nothing that is not here. */
export type Evidence = z.infer<typeof schema>

/** {@link Evidence} before the defaults are filled in. */
export type EvidenceInput = z.input<typeof schema>

/**
 * Checks the evidence of a run.
 *
 * @throws LoraError MIRASTRAL_LORA_PUBLISH that names every problem at once
 */
export function parseEvidence(evidence: unknown): Evidence {
  const parsed = schema.safeParse(evidence)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'evidence'}: ${issue.message}`)
  throw new LoraError('MIRASTRAL_LORA_PUBLISH', listProblems('model card', problems))
}
