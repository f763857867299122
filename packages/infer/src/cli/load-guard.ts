import type { ConversationGuard } from '../conversation-guard.js'
import { InferError } from '../errors.js'
import { loadDefaultExport } from './load-module.js'

/** The guard that the command line names. */
export async function loadGuard(path: string): Promise<ConversationGuard> {
  const made = await loadDefaultExport('guard', path)
  if (isGuard(made)) return made
  const message = `mirastral serve: --guard: ${path} has no default export that is a ConversationGuard or makes one`
  throw new InferError('MIRASTRAL_INFER_OPTION', message)
}

function isGuard(value: unknown): value is ConversationGuard {
  const candidate = value as Partial<ConversationGuard> | null | undefined
  return typeof candidate?.checkInput === 'function' && typeof candidate.watchOutput === 'function'
}
