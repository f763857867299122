import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { InferError } from '../errors.js'

/** The default export of a module that `--option` names; where it is a function, what it gives. */
export async function loadDefaultExport(option: string, path: string): Promise<unknown> {
  try {
    const module = (await import(pathToFileURL(resolve(path)).href)) as { default?: unknown }
    return typeof module.default === 'function' ? await (module.default as () => unknown)() : module.default
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const message = `mirastral serve: --${option}: ${path} cannot be loaded: ${reason}`
    throw new InferError('MIRASTRAL_INFER_OPTION', message, { cause: error })
  }
}
