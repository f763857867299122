import { parseArgs } from 'node:util'
import { z } from 'zod'
import { InferError, listProblems } from '../errors.js'
import { limitsSchema } from '../server/limits.js'

const number = z.coerce.number()
const count = number.int().min(1)
const limit = limitsSchema.shape

/** `NAME=FOLDER,NAME=FOLDER` */
const adapters = z
  .string()
  .transform((list) => list.split(',').map((part) => /^([\w.-]+)=(.+)$/.exec(part.trim())))
  .refine((found) => found.every((match) => match !== null), 'must be NAME=FOLDER, several with commas between them')
  .transform((found) => Object.fromEntries(found.flatMap((match) => (match ? [[match[1], match[2]]] : []))))

const schema = z
  .object({
    model: z.string().min(1).optional(),
    adapter: z.string().min(1).optional(),
    adapters: adapters.default({}),
    generator: z.string().min(1).optional(),
    'model-id': z.string().min(1).max(200).optional(),
    quantization: z.enum(['nf4', 'none']).default('nf4'),
    precision: z.enum(['exact', 'int8', 'int4']).default('exact'),
    device: z.enum(['cpu', 'cuda']).default('cpu'),
    context: count.optional(),
    threads: count.optional(),
    host: z.string().min(1).default('127.0.0.1'),
    port: number.int().min(0).max(65535).default(8080),
    'api-key-file': z.string().min(1).optional(),
    guard: z.string().min(1).optional(),
    'no-guard': z.boolean().default(false),
    'guard-policy': z.string().min(1).optional(),
    'guard-country': z
      .string()
      .regex(/^[A-Za-z]{2}$/, 'must be a country code of two letters, such as US')
      .optional(),
    'system-prompt': z.string().min(1).optional(),
    temperature: number.min(0).max(2).default(0.7),
    'top-p': number.gt(0).max(1).default(0.95),
    'max-new-tokens': count.optional(),
    profile: z.string().min(1).optional(),
    page: z.enum(['on', 'off']).default('on'),
    title: z.string().min(1).max(80).optional(),
    concurrency: number.pipe(limit.concurrency.unwrap()).optional(),
    queue: number.pipe(limit.queue.unwrap()).optional(),
    'queue-seconds': number.gt(0).optional(),
    'request-seconds': number.gt(0).optional(),
    'grace-seconds': number.min(0).optional(),
    'requests-per-minute': number.pipe(limit.requestsPerMinute.unwrap()).optional(),
    'max-body-bytes': number.pipe(limit.bodyBytes.unwrap()).optional(),
  })
  .refine((o) => (o.model === undefined) !== (o.generator === undefined), {
    path: ['model'],
    error: 'give either a model or a generator',
  })
  .refine((o) => o.adapter === undefined || o.model !== undefined, { path: ['adapter'], error: 'needs --model' })
  .refine((o) => Object.keys(o.adapters).length === 0 || o.model !== undefined, {
    path: ['adapters'],
    error: 'needs --model',
  })
  .refine((o) => o.device === 'cpu' || o.precision === 'exact', {
    path: ['precision'],
    error: '--device cuda computes with the weights as they are: leave it out',
  })
  .refine((o) => o.guard === undefined || !o['no-guard'], { path: ['no-guard'], error: 'contradicts --guard' })
  .refine((o) => (o.guard === undefined && !o['no-guard']) || (o['guard-policy'] ?? o['guard-country']) === undefined, {
    path: ['guard'],
    error: '--guard-policy and --guard-country are for the guard of the package: leave out --guard and --no-guard',
  })

export type ServeCommandOptions = z.output<typeof schema>

export const serveHelp = `usage: mirastral serve --model <folder or owner/name> [options]

Serves a model as an OpenAI-compatible API, with a chat page. Ctrl-C stops it when its answers have ended, twice at once.

  --model FOLDER|OWNER/NAME    the model
  --adapter FOLDER             a LoRA adapter for it
  --adapters NAME=FOLDER,...   further adapters, which clients ask for as <model>:<NAME>
  --generator MODULE.js        instead of a model: a module whose default export is a TextGenerator, or makes one
  --model-id NAME              the name that clients ask for (default: the folder's name)
  --quantization nf4|none      how the linear layers are kept (default: nf4)
  --precision exact|int8|int4  how they compute while an answer is written (default: exact; int8 is several times faster)
  --device cpu|cuda            where it computes (default: cpu)
  --context TOKENS             prompt and answer together (default: the model's, at most 4096)
  --threads N
  --host 127.0.0.1 --port 8080 any other host needs an API key
  --api-key-file FILE          one key in each line; or the variable MIRASTRAL_API_KEY
  --guard-country CC           the country whose help lines are shown, such as US (default: an international directory)
  --guard-policy FILE.json     what the safety guard does about what it finds (default: the package's policy)
  --guard MODULE.js            another guard: a module whose default export is a ConversationGuard, or makes one, such as
                               a SafetyGuard that tells somebody of a crisis
  --no-guard                   no guard: for trying a model, not for people in need
  --system-prompt FILE         the system prompt of the chat page (default: techniques of supportive conversation)
  --temperature 0.7 --top-p 0.95 --max-new-tokens 512
                               how the chat page's answers are drawn; API clients say it themselves
  --profile FILE               keeps what the person agrees to, encrypted with the passphrase in the variable
                               MIRASTRAL_PROFILE_PASSPHRASE
  --page on|off                the chat page (default: on)
  --title TEXT                 its title
  --concurrency 8 --queue 64 --queue-seconds 60 --request-seconds 300 --grace-seconds 30
  --requests-per-minute 600 --max-body-bytes 1048576
`

/** Reads the command line of `mirastral serve`. Throws `InferError` that names everything that is wrong. */
export function readServeOptions(argv: readonly string[]): ServeCommandOptions | 'help' {
  const names = Object.keys(schema.shape)
  const options = Object.fromEntries(
    names.map((name) => [name, { type: name === 'no-guard' ? ('boolean' as const) : ('string' as const) }]),
  )
  const { values } = parsed(() =>
    parseArgs({ args: [...argv], options: { ...options, help: { type: 'boolean', short: 'h' } } }),
  )
  if (values.help === true) return 'help'
  const result = schema.safeParse(values)
  if (result.success) return result.data
  const problems = result.error.issues.map((issue) => `--${issue.path.join('.')}: ${issue.message}`)
  throw usageError(listProblems('mirastral serve', problems))
}

function parsed<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    const reason = error instanceof Error ? error.message.split(/\.?(?: |\n)(?=[A-Z])/)[0] : String(error)
    throw usageError(`mirastral serve: ${reason}`)
  }
}

const usageError = (message: string): InferError =>
  new InferError('MIRASTRAL_INFER_OPTION', `${message}; --help lists the options`)
