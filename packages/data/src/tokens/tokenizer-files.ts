import { readFile, stat } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { DataError, errorCodeOf } from '../errors.js'

/** A tokenizer.json of 200,000 pieces with merges takes about 30 MB; ten times that is not a tokenizer. */
const MAX_FILE_BYTES = 256 << 20

/** `null` and an absent field mean the same. */
function optional<T extends z.ZodType>(schema: T): z.ZodType<z.output<T> | undefined> {
  return schema.nullish().transform((value) => value ?? undefined)
}

const addedTokenSchema = z.looseObject({
  id: z.number().int().nonnegative(),
  content: z.string().min(1),
  special: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
})

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).default([]),
  normalizer: optional(z.looseObject({ type: z.string() })),
  pre_tokenizer: optional(z.looseObject({ type: z.string() })),
  decoder: optional(z.looseObject({ type: z.string() })),
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.union([z.record(z.string(), z.number().int()), z.array(z.tuple([z.string(), z.number()]))]),
    byte_fallback: optional(z.boolean()),
  }),
})

const tokenName = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)])
const namedTemplate = z.object({ name: z.string(), template: z.string() })

const configSchema = z.looseObject({
  bos_token: optional(tokenName),
  eos_token: optional(tokenName),
  unk_token: optional(tokenName),
  pad_token: optional(tokenName),
  chat_template: optional(z.union([z.string(), z.array(namedTemplate)])),
})

export type AddedToken = z.infer<typeof addedTokenSchema>
export type TokenizerJson = z.infer<typeof tokenizerSchema>
export type TokenizerConfig = z.infer<typeof configSchema>

/** What a Hugging Face model folder says about its tokenizer. */
export interface TokenizerFiles {
  json: TokenizerJson
  /** tokenizer.json as it was, for the library. */
  rawJson: object
  config: TokenizerConfig
  /** The template for chats: `chat_template.jinja` before the one in the configuration, as in Transformers. */
  chatTemplate: string | null
  /** SHA-256 of everything that decides the tokens. */
  hash: string
}

/**
 * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja of a folder. Nothing is
 * ever downloaded.
 *
 * @throws DataError MIRASTRAL_DATA_TOKENIZER where a file is missing, too large or not what it should be.
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const jsonText = await readOptional(folder, 'tokenizer.json')
  if (jsonText === null) {
    throw tokenizerError(`${folder} has no tokenizer.json; give a Hugging Face model folder`)
  }
  const configText = await readOptional(folder, 'tokenizer_config.json')
  const mapText = await readOptional(folder, 'special_tokens_map.json')
  const templateText = await readOptional(folder, 'chat_template.jinja')
  const rawJson = parseJson(jsonText, folder, 'tokenizer.json')
  const json = check(tokenizerSchema, rawJson, folder, 'tokenizer.json')
  const [config, map] = (['tokenizer_config.json', 'special_tokens_map.json'] as const).map((name, i) =>
    check(configSchema, parseJson([configText, mapText][i] ?? '{}', folder, name), folder, name),
  )
  const hash = createHash('sha256')
  for (const text of [jsonText, configText, mapText, templateText]) hash.update(text ?? '').update('\0')
  return {
    json,
    rawJson,
    config: {
      ...config,
      bos_token: config.bos_token ?? map.bos_token,
      eos_token: config.eos_token ?? map.eos_token,
      unk_token: config.unk_token ?? map.unk_token,
      pad_token: config.pad_token ?? map.pad_token,
    },
    chatTemplate: templateText ?? defaultTemplate(config.chat_template),
    hash: hash.digest('hex'),
  }
}

/** The tokens that only a template may write: the special added tokens, and those that the configuration names. */
export function specialTokensOf({ json, config }: TokenizerFiles): AddedToken[] {
  const special = json.added_tokens.filter((token) => token.special)
  const { vocab } = json.model
  const named = [config.bos_token, config.eos_token, config.unk_token, config.pad_token].flatMap((content) => {
    if (content === undefined || special.some((token) => token.content === content)) return []
    const added = json.added_tokens.find((token) => token.content === content)
    if (added !== undefined) return [added]
    const id = Array.isArray(vocab) ? vocab.findIndex(([name]) => name === content) : (vocab[content] ?? -1)
    return id < 0 ? [] : [{ id, content, special: true, lstrip: false, rstrip: false }]
  })
  return [...special, ...new Map(named.map((token) => [token.content, token])).values()]
}

function defaultTemplate(template: TokenizerConfig['chat_template']): string | null {
  if (!Array.isArray(template)) return template ?? null
  return template.find(({ name }) => name === 'default')?.template ?? null
}

async function readOptional(folder: string, name: string): Promise<string | null> {
  const path = join(folder, name)
  try {
    const { size } = await stat(path)
    if (size > MAX_FILE_BYTES) throw tokenizerError(`${path} must be at most ${MAX_FILE_BYTES} bytes, got ${size}`)
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof DataError) throw error
    const code = errorCodeOf(error)
    if (code === 'ENOENT') return null
    throw tokenizerError(`${path} cannot be read (${code})`)
  }
}

function parseJson(text: string, folder: string, name: string): object {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // Not JSON: the same message as for JSON that is no object.
  }
  throw tokenizerError(`${join(folder, name)} must be a JSON object; download the file again`)
}

function check<T>(schema: z.ZodType<T>, value: unknown, folder: string, name: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const where = result.error.issues.map((issue) => `${issue.path.slice(0, 3).join('.')}: ${issue.message}`)
  throw tokenizerError(`${join(folder, name)} is not a tokenizer file: ${where.slice(0, 5).join('; ')}`)
}

export function tokenizerError(message: string): DataError {
  return new DataError('MIRASTRAL_DATA_TOKENIZER', `tokenizer: ${message}`)
}
