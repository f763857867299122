import { z } from 'zod'
import { DataError } from '../errors.js'
import type { Format, PairFormat } from './format.js'
import { formatOfMapping, mappingSchema, pairFormatOfMapping } from './mapping.js'
import { FORMATS, PAIR_FORMATS, formatNamed } from './registry.js'

/** How the records of an input are read, where detecting it is not wanted. */
export const readingSchema = z.strictObject({
  /** The format of every record, instead of detecting each. */
  format: z.enum(FORMATS.map((format) => format.name)).optional(),
  /** The fields of a format of your own. */
  mapping: mappingSchema.optional(),
  /** The encoding of text files that are not UTF-8: a label of the WHATWG Encoding standard, such as `latin1`. */
  encoding: z.string().refine(isEncoding, 'is not a known encoding').optional(),
})

export type Reading = z.output<typeof readingSchema>

const inputSchema = readingSchema.extend({ path: z.string().min(1) })

/** A folder, a file or a dataset of the Hub, and, where its records need it, how they are read. */
export type DataInput = string | z.input<typeof inputSchema>

export interface ResolvedInput {
  path: string
  /** Instead of what the options say for all inputs. */
  reading?: Reading
}

/** @throws DataError MIRASTRAL_DATA_OPTION or MIRASTRAL_DATA_INPUT that names every wrong input at once. */
export function resolveInputs(inputs: readonly DataInput[], pairs: boolean): ResolvedInput[] {
  if (inputs.length === 0) {
    throw new DataError('MIRASTRAL_DATA_INPUT', 'data: there must be at least one input; give folders or files')
  }
  const wrong: string[] = []
  const resolved = inputs.map((input, i): ResolvedInput => {
    if (typeof input === 'string') return { path: input }
    const { success, data, error } = inputSchema.safeParse(input)
    if (!success) {
      wrong.push(...error.issues.map((issue) => `${['inputs', i, ...issue.path].join('.')}: ${issue.message}`))
      return { path: '' }
    }
    const { path, ...reading } = data
    if (pairs) wrong.push(...pairProblems(reading).map((problem) => `inputs.${i}.${problem}`))
    return Object.values(reading).every((value) => value === undefined) ? { path } : { path, reading }
  })
  if (wrong.length > 0) throw new DataError('MIRASTRAL_DATA_OPTION', `data: ${wrong.join('; ')}`)
  return resolved
}

/** What of a reading does not go with preference pairs. */
export function pairProblems({ format, mapping }: Reading): string[] {
  const problems: string[] = []
  if (format !== undefined && !PAIR_FORMATS.some(({ name }) => name === format)) {
    problems.push(`format: ${format} has no chosen and rejected answer`)
  }
  if (mapping !== undefined && !('chosen' in mapping)) problems.push('mapping: must name prompt, chosen and rejected')
  return problems
}

/** The format of every record; undefined where each is to be detected. */
export function fixedFormat({ format, mapping }: Pick<Reading, 'format' | 'mapping'>): Format | undefined {
  if (mapping !== undefined) return formatOfMapping(mapping)
  return format === undefined ? undefined : formatNamed(format)
}

export function fixedPairFormat({ format, mapping }: Pick<Reading, 'format' | 'mapping'>): PairFormat | undefined {
  if (mapping !== undefined && 'chosen' in mapping) return pairFormatOfMapping(mapping)
  return PAIR_FORMATS.find(({ name }) => name === format)
}

/** The reading of an input where it says something, else that of all; a format goes before a mapping of all, too. */
export function readingOf(own: Reading | undefined, ofAll: Reading): Reading {
  if (own === undefined) return ofAll
  const says = own.format !== undefined || own.mapping !== undefined
  const encoding = own.encoding ?? ofAll.encoding
  return { ...(says ? own : ofAll), ...(encoding === undefined ? {} : { encoding }) }
}

function isEncoding(label: string): boolean {
  try {
    return new TextDecoder(label).encoding !== ''
  } catch {
    return false
  }
}
