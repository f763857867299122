import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { z } from 'zod'
import { InferError, listProblems } from './errors.js'
import type { InferErrorCode } from './errors.js'

/** The package's `data` folder, which lies beside `src/` and `dist/`. */
export function packageDataFolder(): string {
  return fileURLToPath(new URL('../data', import.meta.url))
}

/**
 * Reads a JSON file of the package's data folder, by its path in there, and checks its form.
 * @throws InferError with the given code, naming every problem.
 */
export function readPackageData<T>(path: string, schema: z.ZodType<T>, code: InferErrorCode): T {
  return checkForm(readJson(path, code), `@mirastral/infer data/${path}`, schema, code)
}

function readJson(path: string, code: InferErrorCode): unknown {
  try {
    return JSON.parse(readFileSync(join(packageDataFolder(), path), 'utf8'))
  } catch (cause) {
    const message = `internal: data/${path} of @mirastral/infer cannot be read as JSON; install the package again`
    throw new InferError(code, message, { exitCode: 1, cause })
  }
}

/** @throws InferError with the given code, naming `what` and every problem, but none of the values. */
export function checkForm<T>(value: unknown, what: string, schema: z.ZodType<T>, code: InferErrorCode): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the whole'}: ${issue.message}`)
  throw new InferError(code, listProblems(what, problems))
}
