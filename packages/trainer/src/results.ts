import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { SaveAdapter } from './checkpoint.js'
import { systemErrorCode, writeError } from './errors.js'
import { hashFile, publishFolder, temporaryPrefix, writeFileAtomically } from './files.js'
import { parseJson } from './manifest.js'
import type { StateTensor } from './step.js'

/** The places in an output folder. */
export interface OutputPaths {
  readonly folder: string
  readonly results: string
  readonly finalModel: string
  readonly status: string
  readonly report: string
}

export function outputPaths(folder: string): OutputPaths {
  const results = join(folder, 'results')
  return {
    folder,
    results,
    finalModel: join(folder, 'final_model'),
    status: join(results, 'status.json'),
    report: join(folder, 'report.html'),
  }
}

const statusSchema = z.object({
  /**
   * How the last segment ended; `running` while it goes, and after it was killed. Job scripts read it to decide whether to
   * go on: `stopped` is saved and wants another segment.
   */
  status: z.enum(['running', 'finished', 'stopped', 'diverged']),
  message: z.string(),
  run: z.number(),
  step: z.number(),
  totalSteps: z.number(),
  checkpoint: z.string().nullable(),
  /** SHA-256 of `final_model/adapter_model.safetensors`, once the run is finished. */
  finalModelHash: z.string().nullable(),
})

/** `results/status.json`: how the last segment ended. */
export type StatusFile = z.infer<typeof statusSchema>

export async function readStatus(paths: OutputPaths): Promise<StatusFile | null> {
  try {
    const parsed = statusSchema.safeParse(parseJson(await readFile(paths.status, 'utf8')))
    return parsed.success ? parsed.data : null
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null
    throw error
  }
}

export async function writeStatus(paths: OutputPaths, status: StatusFile): Promise<void> {
  try {
    await writeFileAtomically(paths.status, `${JSON.stringify(status, null, 2)}\n`)
  } catch (error) {
    throw writeError(error, `status file ${paths.status}`)
  }
}

/** Writes `final_model/` whole or not at all and returns the SHA-256 of its adapter. */
export async function writeFinalModel(
  paths: OutputPaths,
  weights: ReadonlyMap<string, StateTensor>,
  saveAdapter: SaveAdapter,
): Promise<string> {
  const temporary = join(paths.folder, `${temporaryPrefix}final_model`)
  try {
    await rm(temporary, { recursive: true, force: true })
    await mkdir(temporary, { recursive: true })
    await saveAdapter(temporary, weights, 'final')
    await publishFolder(temporary, paths.finalModel)
    return await finalModelHash(paths)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    const advice = 'The last checkpoint is whole: run again and only this is left to do.'
    throw writeError(error, `final model ${paths.finalModel}`, advice)
  }
}

async function finalModelHash(paths: OutputPaths): Promise<string> {
  return hashFile(join(paths.finalModel, 'adapter_model.safetensors'))
}

/** Whether `final_model/` is the one that the status file speaks of. */
export async function isFinalModelThere(paths: OutputPaths, status: StatusFile): Promise<boolean> {
  try {
    return (await finalModelHash(paths)) === status.finalModelHash
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false
    throw error
  }
}

/** Renames `results` and `final_model` to the first free `<name>-old-<n>`. Returns the new names. */
export async function putAside(paths: OutputPaths): Promise<string[]> {
  const taken = new Set(await readdir(paths.folder))
  let n = 1
  while (taken.has(`results-old-${n}`) || taken.has(`final_model-old-${n}`)) n++
  const moved: string[] = []
  for (const name of ['results', 'final_model']) {
    if (!taken.has(name)) continue
    await rename(join(paths.folder, name), join(paths.folder, `${name}-old-${n}`))
    moved.push(`${name}-old-${n}`)
  }
  return moved
}
