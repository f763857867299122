import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { z } from 'zod'
import { InferError } from '../errors.js'
import { checkForm } from '../package-data.js'

/** The package's data folder, whether this module runs from `src/` or is bundled into `dist/`. */
export function packageDataFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'data', 'guard'))) return join(folder, 'data')
    if (folder === dirname(folder)) {
      const message = 'internal: guard: the data folder of @mirastral/infer is missing; install the package again'
      throw new InferError('MIRASTRAL_INFER_GUARD', message, { exitCode: 1 })
    }
  }
}

/**
 * Reads a JSON data file and checks its form.
 * @throws InferError MIRASTRAL_INFER_GUARD naming the file and every problem.
 */
export function readDataFile<T>(path: string, schema: z.ZodType<T>): T {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    throw new InferError('MIRASTRAL_INFER_GUARD', `guard: ${path} must be a JSON file that can be read`, { cause })
  }
  return checkData(path, value, schema)
}

/** @throws InferError MIRASTRAL_INFER_GUARD naming `what` and every problem. */
export function checkData<T>(what: string, value: unknown, schema: z.ZodType<T>): T {
  return checkForm(value, `guard: ${what}`, schema, 'MIRASTRAL_INFER_GUARD')
}
