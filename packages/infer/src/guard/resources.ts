import { z } from 'zod'
import { InferError } from '../errors.js'
import type { HelpResource } from '../text-generator.js'
import { checkForm, readPackageData } from '../package-data.js'

/** What a place can help with. */
export const resourceKinds = ['emergency', 'suicide', 'abuse', 'child', 'poison'] as const
export type ResourceKind = (typeof resourceKinds)[number]

const resource = z.strictObject({
  kind: z.enum(resourceKinds),
  name: z.string().min(1),
  phone: z.string().min(2).optional(),
  /** What to text, and where to. */
  text: z.string().min(2).optional(),
  url: z.url({ protocol: /^https$/ }).optional(),
  description: z.string().optional(),
  /** Where the entry can be checked. */
  source: z.url({ protocol: /^https$/ }),
  /** The month of the information. */
  asOf: z.string().regex(/^\d{4}-\d{2}$/),
})
export type GuardResource = z.infer<typeof resource>

const resourceFile = z.strictObject({
  version: z.string(),
  note: z.string(),
  /** Shown where the country is unknown, has no file entry, or has nothing of the kind. */
  default: z.array(resource).refine((all) => resourceKinds.every((kind) => all.some((r) => r.kind === kind)), {
    message: `must have an entry of each kind: ${resourceKinds.join(', ')}`,
  }),
  countries: z.record(z.string().regex(/^[A-Z]{2}$/), z.array(resource)),
})
export type ResourceDirectory = z.infer<typeof resourceFile>

/**
 * The directory that comes with the package, or the one given.
 * @throws InferError MIRASTRAL_INFER_GUARD naming every problem.
 */
export function loadResources(value?: unknown): ResourceDirectory {
  if (value !== undefined) return checkForm(value, 'guard: resources', resourceFile, 'MIRASTRAL_INFER_GUARD')
  return readPackageData('guard/resources.json', resourceFile, 'MIRASTRAL_INFER_GUARD')
}

/** The entries of a country for these kinds, in the order of the kinds; for a kind that it lacks, the default's. */
export function findResources(
  directory: ResourceDirectory,
  country: string | undefined,
  kinds: readonly ResourceKind[],
): GuardResource[] {
  const own = (country === undefined ? undefined : directory.countries[country.toUpperCase()]) ?? []
  return kinds.flatMap((kind) => {
    const found = own.filter((r) => r.kind === kind)
    return found.length > 0 ? found : directory.default.filter((r) => r.kind === kind)
  })
}

/**
 * The country's code as the directory has it.
 * @throws InferError MIRASTRAL_INFER_GUARD for a country that it lacks.
 */
export function checkCountry(directory: ResourceDirectory, country: string): string {
  const code = country.toUpperCase()
  if (directory.countries[code] !== undefined) return code
  const known = Object.keys(directory.countries).sort().join(', ')
  const message = `guard: country: no help lines for ${code}; known are ${known}; leave it out for an international directory, or give resources of your own`
  throw new InferError('MIRASTRAL_INFER_GUARD', message)
}

/** One line of text for each place. */
export function formatResources(resources: readonly GuardResource[]): string {
  return resources
    .map(({ name, phone, text, url, description }) => {
      const ways = [phone && !name.includes(phone) ? phone : '', text ? `text ${text}` : '', url ?? ''].filter(
        (w) => w !== '',
      )
      return `- ${[name, ...ways].join(', ')}${description ? ` (${description})` : ''}`
    })
    .join('\n')
}

/** What the page and the clients show. */
export function helpResources(resources: readonly GuardResource[]): HelpResource[] {
  return resources.map(({ name, phone, text, url, description }) => ({
    name,
    ...(phone ? { phone } : {}),
    ...(text ? { text } : {}),
    ...(url ? { url } : {}),
    ...(description ? { description } : {}),
  }))
}
