import { realpathSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DataError, errorCodeOf } from '../errors.js'
import type { Reading, ResolvedInput } from '../formats/reading.js'
import type { FileProblem } from './file-problems.js'

/** How the bytes of a file are read, told by its name. */
export type FileKind = 'json' | 'jsonl' | 'csv' | 'parquet'

export interface InputFile {
  path: string
  kind: FileKind
  /** How its records are read, where its input says so. */
  reading?: Reading
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
 * A file that several inputs hold is read once, by the first of them that says how.
 *
 * @param exclude paths that are never data, such as the ledger.
 * @throws DataError MIRASTRAL_DATA_INPUT where an input does not exist, or a single file is of no known kind.
 */
export async function listInputFiles(
  inputs: readonly (string | ResolvedInput)[],
  exclude: readonly string[] = [],
): Promise<InputFiles> {
  const found: InputFiles = { files: [], unreadable: [], ignored: 0 }
  const excluded = exclude.map((path) => realPath(resolve(path)))
  const files = new Map<string, InputFile>()
  for (const given of inputs) {
    const { path: input, reading } = typeof given === 'string' ? { path: given } : given
    const listing: Listing = { found, files, seen: new Set(excluded), reading }
    const info = await stat(input).catch((error: unknown) => {
      throw inputError(`${input} cannot be opened (${errorCodeOf(error)}); give folders or files that exist`)
    })
    if (info.isDirectory()) {
      await walk(input, listing)
      continue
    }
    const kind = fileKindOf(input)
    if (kind === undefined || !info.isFile()) {
      throw inputError(`${input} must be a .json, .jsonl, .ndjson, .csv, .tsv or .parquet file, or a folder of them`)
    }
    addFile(input, kind, listing)
  }
  return found
}

/** One input being looked through. */
interface Listing {
  found: InputFiles
  /** By real path: those of all inputs. */
  files: Map<string, InputFile>
  /** Real paths of this input, and of what is excluded. */
  seen: Set<string>
  reading: Reading | undefined
}

async function walk(folder: string, listing: Listing): Promise<void> {
  const { found, seen } = listing
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
      if (info.isDirectory()) await walk(path, listing)
      else if (kind !== undefined && info.isFile()) addFile(path, kind, listing)
      else found.ignored++
    } catch (error) {
      // A link to nowhere matters only where it is named like data.
      if (kind === undefined) found.ignored++
      else found.unreadable.push({ path, problem: 'unreadable', detail: errorCodeOf(error) })
    }
  }
}

function addFile(path: string, kind: FileKind, { found, files, seen, reading }: Listing): void {
  const real = realPath(path)
  if (seen.has(real)) return
  seen.add(real)
  const known = files.get(real)
  if (known !== undefined) {
    if (reading !== undefined) known.reading ??= reading
    return
  }
  const file: InputFile = { path, kind, ...(reading === undefined ? {} : { reading }) }
  files.set(real, file)
  found.files.push(file)
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
