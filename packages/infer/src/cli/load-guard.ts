import { readFile } from 'node:fs/promises'
import type { ConversationGuard } from '../conversation-guard.js'
import { InferError } from '../errors.js'
import { loadDefaultExport } from './load-module.js'
import type { ServeCommandOptions } from './serve-options.js'

/** The guard that the command line asks for: the package's, that of a module, or none. */
export async function loadGuard(options: ServeCommandOptions): Promise<ConversationGuard | undefined> {
  if (options['no-guard']) return undefined
  if (options.guard !== undefined) return fromModule(options.guard)
  const { SafetyGuard } = await import('../guard/index.js')
  const [country, file] = [options['guard-country'], options['guard-policy']]
  const policy = file === undefined ? undefined : await readPolicy(file)
  return SafetyGuard.load({
    ...(country === undefined ? {} : { country }),
    ...(policy === undefined ? {} : { policy }),
  })
}

async function readPolicy(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    const message = `mirastral serve: --guard-policy: ${path} must be a JSON file that can be read`
    throw new InferError('MIRASTRAL_INFER_OPTION', message, { cause })
  }
}

async function fromModule(path: string): Promise<ConversationGuard> {
  const made = await loadDefaultExport('guard', path)
  if (isGuard(made)) return made
  const message = `mirastral serve: --guard: ${path} has no default export that is a ConversationGuard or makes one`
  throw new InferError('MIRASTRAL_INFER_OPTION', message)
}

function isGuard(value: unknown): value is ConversationGuard {
  const candidate = value as Partial<ConversationGuard> | null | undefined
  return typeof candidate?.checkInput === 'function' && typeof candidate.watchOutput === 'function'
}
