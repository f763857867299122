import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'
import type { ModuleInfo } from '@mirastral/lora'
import { SafetensorsFile, SafetensorsFolder } from '@mirastral/safetensors'

export const fixtures = fileURLToPath(new URL('../../../fixtures/lora/', import.meta.url))

export function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(join(fixtures, name), 'utf8')) as T
}

/** What `configs.json` holds; see make_config_goldens.py. */
export interface ConfigGoldens {
  models: Record<string, ModuleInfo[]>
  cases: {
    name: string
    model: string
    options: Record<string, unknown>
    text: string
    layers: Record<string, [rank: number, alpha: number, scaling: number]>
    tensors: Record<string, number[]>
  }[]
  fullmatch: [pattern: string, text: string, expected: boolean][]
  patterns: [pattern: string, name: string, expected: boolean][]
}

const cleanups: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const clean of cleanups.splice(0)) await clean()
})

/** A folder that is gone after the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mirastral-lora-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** The tensors of a model folder, closed after the tests of the file. */
export async function openFolder(folder: string): Promise<SafetensorsFolder> {
  const reader = await SafetensorsFolder.open(folder)
  cleanups.push(() => reader.close())
  return reader
}

/** The tensors of one file, closed after the tests of the file. */
export async function openFile(path: string): Promise<SafetensorsFile> {
  const file = await SafetensorsFile.open(path)
  cleanups.push(() => file.close())
  return file
}

/** The error that `run` throws; fails when it throws none. */
export async function caught(run: () => unknown): Promise<Error & { code?: string; exitCode?: number }> {
  try {
    await run()
  } catch (error) {
    if (error instanceof Error) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
