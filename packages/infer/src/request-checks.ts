import { z } from 'zod'
import { InferError, listProblems } from './errors.js'
import type { GenerationRequest } from './text-generator.js'

const limits = z.object({
  temperature: z.number().min(0).optional(),
  topK: z.int().min(0).optional(),
  topP: z.number().gt(0).max(1).optional(),
  minP: z.number().min(0).max(1).optional(),
  repetitionPenalty: z.number().gt(0).optional(),
  presencePenalty: z.number().min(-2).max(2).optional(),
  frequencyPenalty: z.number().min(-2).max(2).optional(),
  seed: z.int().optional(),
  maxNewTokens: z.int().min(1).optional(),
  logprobs: z.int().min(0).max(20).optional(),
  stop: z.array(z.string().min(1)).optional(),
})

/** Checks the ranges of a request's options. @throws InferError MIRASTRAL_INFER_OPTION that names every problem at once. */
export function checkRequest(request: GenerationRequest): void {
  const result = limits.safeParse(request)
  if (result.success) return
  const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  throw new InferError('MIRASTRAL_INFER_OPTION', listProblems('generate', problems))
}
