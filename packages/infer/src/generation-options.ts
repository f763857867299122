import { z } from 'zod'
import { InferError, listProblems } from './errors.js'
import type { GenerationOptions } from './text-generator.js'

const penalty = z.number().min(-2).max(2)

/** The ranges of all options; the words and ranges of Hugging Face's `GenerationConfig` and of the OpenAI API. */
const optionsSchema = z.object({
  temperature: z.number().min(0).max(100).optional(),
  topK: z.int().min(0).optional(),
  topP: z.number().gt(0).max(1).optional(),
  minP: z.number().min(0).max(1).optional(),
  repetitionPenalty: z.number().gt(0).max(100).optional(),
  presencePenalty: penalty.optional(),
  frequencyPenalty: penalty.optional(),
  seed: z.int().optional(),
  stop: z.array(z.string().min(1).max(500)).max(16).optional(),
  maxNewTokens: z.int().min(1).optional(),
  logprobs: z.int().min(0).max(20).optional(),
  jsonSchema: z.record(z.string(), z.unknown()).optional(),
})

/** The options of a request, checked. Throws `InferError` that names every option out of range. */
export function checkGenerationOptions(options: GenerationOptions): GenerationOptions {
  const result = optionsSchema.safeParse(options)
  if (result.success) return result.data
  const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  throw new InferError('MIRASTRAL_INFER_OPTION', listProblems('generate: options out of range', problems))
}
