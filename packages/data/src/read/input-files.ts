import { realpathSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DataError, errorCodeOf } from '../errors.js'
import type { FileProblem } from './file-problems.js'

/** How the bytes of a file are read, told by its name. */
export type FileKind = 'json' | 'jsonl' | 'csv' | 'parquet'

export interface InputFile {
  path: string
  kind: FileKind
}

export interface InputFiles {
  files: InputFile[]
  /** Files and folders that could not be looked at. */
  unreadable: { path: string; problem: FileProblem; detail: string }[]
  /** How many files have other names than data files have. */
  ignored: number
}

const KINDS: readonly (readonly [RegExp, FileKind])[] = [
  [/\.json(\.gz)?$/i, 'json'],
  [/\.(jsonl|ndjson)(\.gz)?$/i, 'jsonl'],
  [/\.(csv|tsv)(\.gz)?$/i, 'csv'],
  [/\.parquet$/i, 'parquet'],
]

export function fileKindOf(path: string): FileKind | undefined {
  return KINDS.find(([pattern]) => pattern.test(path))?.[1]
}

/** Numbers in names count as numbers, so that worker2 comes before worker10. */
const collator = new Intl.Collator('en', { numeric: true })
const inOrder = (a: string, b: string): number => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0)

/**
 * The data files of folders (recursive, hidden entries left out, every real folder once, so that links may form loops) and
 * single files, in a stable order: as the inputs were given, then by path.
 *
 * @param exclude paths that are never data, such as the ledger.
 * @throws DataError MIRASTRAL_DATA_INPUT where an input does not exist, or a single file is of no known kind.
 */
export async function listInputFiles(inputs: readonly string[], exclude: readonly string[] = []): Promise<InputFiles> {
  const found: InputFiles = { files: [], unreadable: [], ignored: 0 }
  const seen = new Set(exclude.map((path) => realPath(resolve(path))))
  for (const input of inputs) {
    const info = await stat(input).catch((error: unknown) => {
      throw inputError(`${input} cannot be opened (${errorCodeOf(error)}); give folders or files that exist`)
    })
    if (info.isDirectory()) {
      await walk(input, seen, found)
      continue
    }
    const kind = fileKindOf(input)
    if (kind === undefined || !info.isFile()) {
      throw inputError(`${input} must be a .json, .jsonl, .ndjson, .csv, .tsv or .parquet file, or a folder of them`)
    }
    addFile(input, kind, seen, found)
  }
  return found
}

async function walk(folder: string, seen: Set<string>, found: InputFiles): Promise<void> {
  const real = realPath(folder)
  if (seen.has(real)) return
  seen.add(real)
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    found.unreadable.push({ path: folder, problem: 'unreadable', detail: errorCodeOf(error) })
    return
  }
  for (const name of names.sort(inOrder)) {
    if (name.startsWith('.')) continue
    const path = join(folder, name)
    const kind = fileKindOf(name)
    try {
      const info = await stat(path)
      if (info.isDirectory()) await walk(path, seen, found)
      else if (kind !== undefined && info.isFile()) addFile(path, kind, seen, found)
      else found.ignored++
    } catch (error) {
      // A link to nowhere matters only where it is named like data.
      if (kind === undefined) found.ignored++
      else found.unreadable.push({ path, problem: 'unreadable', detail: errorCodeOf(error) })
    }
  }
}

function addFile(path: string, kind: FileKind, seen: Set<string>, found: InputFiles): void {
  const real = realPath(path)
  if (seen.has(real)) return
  seen.add(real)
  found.files.push({ path, kind })
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function inputError(message: string): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `data: ${message}`)
}
