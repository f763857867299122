import { readFile, stat } from 'node:fs/promises'
import { DataError, errorCodeOf } from '../errors.js'

/** A list of a million paths takes about 100 MB. */
const MAX_BYTES = 256 << 20

/**
 * The paths in a pickle of a set, frozenset, list, tuple or dict of `str` or `pathlib` paths, of any protocol. Nothing in
 * the pickle is executed: any name but those of these types ends the reading.
 *
 * @throws DataError MIRASTRAL_DATA_INPUT where the file is anything else.
 */
export async function readPickledPaths(path: string): Promise<string[]> {
  const { size } = await stat(path).catch((error: unknown) => {
    throw pickleError(path, `cannot be opened (${errorCodeOf(error)})`)
  })
  if (size > MAX_BYTES) throw pickleError(path, `must be at most ${MAX_BYTES} bytes, got ${size}`)
  const { Parser } = await import('pickleparser')
  let value: unknown
  try {
    const parser = new Parser({
      nameResolver: { resolve },
      unpicklingTypeOfSet: 'Set',
      unpicklingTypeOfDictionary: 'Map',
    })
    value = parser.parse(await readFile(path))
  } catch (error) {
    if (error instanceof UnknownName) throw pickleError(path, `holds ${error.message}, which is no collection of paths`)
    throw pickleError(path, 'is not a whole pickle')
  }
  const items = collectionOf(value)
  if (items?.every((item) => typeof item === 'string') !== true) {
    throw pickleError(path, 'must hold a set, list or dict of paths')
  }
  return [...new Set(items)]
}

class UnknownName extends Error {}

function resolve(module: string, name: string): (...args: unknown[]) => unknown {
  const full = `${module}.${name}`
  if (/^(builtins|__builtin__)\.(set|frozenset|list|tuple)$/.test(full)) return (items = []) => collectionOf(items)
  if (/^pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path$/.test(full)) return (...parts) => joinedPath(parts, name)
  throw new UnknownName(/^[\w.]{1,80}$/.test(full) ? full : 'an unknown name')
}

function joinedPath(parts: unknown[], name: string): string {
  const separator = name.includes('Windows') ? '\\' : '/'
  const [first = '', ...rest] = parts.map(String)
  return first + (first === '' || first.endsWith(separator) ? '' : separator) + rest.join(separator)
}

function collectionOf(value: unknown): unknown[] | null {
  if (Array.isArray(value)) return value as unknown[]
  if (value instanceof Set) return [...(value as Set<unknown>)]
  return value instanceof Map ? [...(value as Map<unknown, unknown>).keys()] : null
}

function pickleError(path: string, rule: string): DataError {
  return new DataError('MIRASTRAL_DATA_INPUT', `ledger import: ${path} ${rule}`)
}
