import { InferError } from '../errors.js'
import { inputCategories } from './types.js'
import type { InputCategory, InputFinding } from './types.js'

/** A further judge of what a person writes. It can raise the guard's severity, never lower it. */
export interface SecondOpinion {
  /** Rejects where it cannot judge; the guard then goes by its own findings and says so. */
  judge(text: string, signal?: AbortSignal): Promise<readonly InputFinding[]>
}

/** What the text-classification pipeline of @huggingface/transformers gives for one text. */
export interface LabelScore {
  readonly label: string
  readonly score: number
}
export type TextClassifier = (text: string, options: { top_k: null }) => Promise<readonly LabelScore[]>

export interface TransformersOpinionOptions {
  /** A text-classification model: an id on the Hugging Face Hub or a folder. */
  readonly model: string
  /** Which of the model's labels mean what. */
  readonly labels: Readonly<Record<string, InputCategory>>
  /** From this score on a label counts. Default 0.5. */
  readonly threshold?: number
  /** Makes the classifier; by default `pipeline('text-classification', model)` of @huggingface/transformers, loaded when first needed. */
  readonly createClassifier?: (model: string) => Promise<TextClassifier>
}

/**
 * A second opinion by a text-classification model. Nothing is loaded before the first message.
 * @throws InferError MIRASTRAL_INFER_GUARD if the labels name no known category or the threshold is outside 0 to 1.
 */
export function transformersOpinion(options: TransformersOpinionOptions): SecondOpinion {
  const { model, labels, threshold = 0.5, createClassifier = createPipeline } = options
  const unknown = Object.values(labels).filter((category) => !inputCategories.includes(category))
  if (unknown.length > 0 || Object.keys(labels).length === 0) {
    const message = `transformersOpinion: labels must map the model's labels to ${inputCategories.join(', ')}`
    throw new InferError('MIRASTRAL_INFER_GUARD', message)
  }
  if (!(threshold >= 0 && threshold <= 1)) {
    throw new InferError(
      'MIRASTRAL_INFER_GUARD',
      `transformersOpinion: threshold must be from 0 to 1, got ${threshold}`,
    )
  }
  let classifier: Promise<TextClassifier> | undefined
  return {
    async judge(text, signal) {
      classifier ??= createClassifier(model)
      const loaded = await classifier.catch((error: unknown) => {
        classifier = undefined
        throw error
      })
      signal?.throwIfAborted()
      const scores = await loaded(text, { top_k: null })
      return scores.flatMap(({ label, score }) => {
        const category = labels[label]
        if (category === undefined || score < threshold) return []
        const evidence = { start: 0, end: text.length }
        return [{ category, severity: 'high', reading: 'plain', evidence, source: 'second-opinion', score } as const]
      })
    },
  }
}

async function createPipeline(model: string): Promise<TextClassifier> {
  const { pipeline } = await import('@huggingface/transformers')
  const classify = await pipeline('text-classification', model)
  return async (text, options) => await classify(text, options)
}
