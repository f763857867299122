import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { SafetensorsFile } from '@mirastral/safetensors'
import { parseAdapterConfig } from './config-json.js'
import type { LoraConfig } from './config.js'
import { LoraError, listProblems } from './errors.js'
import { portableModelName } from './model-id.js'
import { pythonJson } from './python-json.js'
import type { PythonJson } from './python-json.js'
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from './weights.js'

/** What may leave the machine; nothing else does, whatever lies in the folder. */
export const PUBLISHABLE: readonly string[] = [
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  'README.md',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'generation_config.json',
  'adapter.gguf',
  'Modelfile',
]

/** A file to be published: from the disk as it is, or a text made for the purpose. */
export interface PublishFile {
  readonly path: string
  readonly size: number
  /** Of the content, hexadecimal. */
  readonly sha256: string
  /** What Git calls the content: SHA-1 over `blob <size>\0` and the content, hexadecimal. */
  readonly gitOid: string
  readonly content: URL | Blob
}

/** What a folder would publish. */
export interface PublishPlan {
  readonly files: readonly PublishFile[]
  /** Entries of the folder that are not on the list and stay here. */
  readonly leftOut: readonly string[]
  readonly config: LoraConfig
}

/** Tokens and keys by their well-known forms; a match is reported by its kind, never by its text. */
const secrets: readonly (readonly [string, RegExp])[] = [
  ['a Hugging Face token', /\bhf_[A-Za-z0-9]{30,}/],
  ['an API key', /\bsk-[A-Za-z0-9_-]{32,}/],
  ['an AWS key', /\b(AKIA|ASIA)[A-Z0-9]{16}\b/],
  ['a GitHub token', /\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})/],
  ['a private key', /-----BEGIN [A-Z ]*PRIVATE KEY-----/],
]

const isText = (name: string): boolean => /\.(json|md|txt|jinja)$/.test(name) || name === 'Modelfile'

/** Larger texts are vocabularies, which are read as text all the same; nothing on the list is near this. */
const MAX_TEXT_BYTES = 256 * 2 ** 20

/**
 * Decides what of a folder is published: the regular files on the list, checked. Paths of this machine in configuration
 * files are cut down to names. `card` replaces the folder's README.md.
 *
 * @throws LoraError MIRASTRAL_LORA_PUBLISH that names every problem at once
 */
export async function planPublish(
  folder: string,
  card: ((config: LoraConfig) => string) | undefined,
): Promise<PublishPlan> {
  const names = await listFolder(folder)
  const problems: string[] = []
  const chosen = names.filter((name) => PUBLISHABLE.includes(name))
  for (const name of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) {
    if (!chosen.includes(name)) problems.push(`${name}: is missing; is this an adapter folder?`)
  }
  const texts = new Map<string, string>()
  for (const name of chosen) {
    const info = await lstat(join(folder, name))
    // A link could lead to anything on the machine.
    if (!info.isFile()) problems.push(`${name}: must be a regular file, got a link or folder`)
    else if (isText(name) && info.size > MAX_TEXT_BYTES) problems.push(`${name}: is too large, ${info.size} bytes`)
    else if (isText(name)) texts.set(name, await readFile(join(folder, name), 'utf8'))
    else if (name === ADAPTER_WEIGHTS) problems.push(...(await weightProblems(folder)))
  }
  if (problems.length > 0) throw new LoraError('MIRASTRAL_LORA_PUBLISH', listProblems(folder, problems))
  const { config } = parseAdapterConfig(texts.get(ADAPTER_CONFIG) ?? '', join(folder, ADAPTER_CONFIG))
  if (card !== undefined) texts.set('README.md', card(config))
  if (!texts.has('README.md')) {
    throw new LoraError(
      'MIRASTRAL_LORA_PUBLISH',
      `${folder}: has no README.md and there is no evidence to write one from`,
    )
  }
  return {
    files: await Promise.all(filesOf(folder, chosen, texts)),
    leftOut: names.filter((n) => !PUBLISHABLE.includes(n)),
    config,
  }
}

function filesOf(
  folder: string,
  chosen: readonly string[],
  texts: ReadonlyMap<string, string>,
): Promise<PublishFile>[] {
  const binary = chosen.filter((name) => !texts.has(name)).map((name) => fileFromDisk(folder, name))
  const text = [...texts].map(([name, content]) => {
    const found = secrets.find(([, pattern]) => pattern.test(content))
    if (found !== undefined) {
      throw new LoraError(
        'MIRASTRAL_LORA_PUBLISH',
        `${join(folder, name)}: seems to hold ${found[0]}; remove it and try again`,
      )
    }
    return Promise.resolve(fileFromText(name, portable(name, content)))
  })
  return [...binary, ...text]
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (cause) {
    throw new LoraError('MIRASTRAL_LORA_PUBLISH', `${folder}: cannot be read; is it an adapter folder?`, { cause })
  }
}

/** Adapter weights hold adapter weights and nothing else: no optimizer state, no text in the metadata. */
async function weightProblems(folder: string): Promise<string[]> {
  const file = await SafetensorsFile.open(join(folder, ADAPTER_WEIGHTS))
  await file.close()
  const stray = [...file.tensors.keys()].filter((key) => !key.startsWith('base_model.model.'))
  const notes = Object.keys(file.metadata).filter((key) => key !== 'format')
  return [
    ...(stray.length === 0 ? [] : [`${ADAPTER_WEIGHTS}: holds ${stray.length} tensors that are no adapter's`]),
    ...(notes.length === 0 ? [] : [`${ADAPTER_WEIGHTS}: has ${notes.length} metadata entries besides "format"`]),
  ]
}

/** The keys under which libraries store where a model came from, which may be a path of this machine. */
const originKeys: Readonly<Record<string, string>> = {
  [ADAPTER_CONFIG]: 'base_model_name_or_path',
  'tokenizer_config.json': 'name_or_path',
}

function portable(name: string, text: string): string {
  const key = originKeys[name]
  if (key === undefined) return text
  const json = JSON.parse(text) as Record<string, PythonJson>
  const origin = json[key]
  if (typeof origin !== 'string' || portableModelName(origin) === origin) return text
  return name === ADAPTER_CONFIG
    ? text.replace(JSON.stringify(origin), JSON.stringify(portableModelName(origin)))
    : pythonJson({ ...json, [key]: portableModelName(origin) })
}

function fileFromText(path: string, text: string): PublishFile {
  const bytes = Buffer.from(text, 'utf8')
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const gitOid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  return { path, size: bytes.length, sha256, gitOid, content: new Blob([bytes]) }
}

async function fileFromDisk(folder: string, path: string): Promise<PublishFile> {
  const full = join(folder, path)
  const { size } = await lstat(full)
  const sha256 = createHash('sha256')
  const sha1 = createHash('sha1').update(`blob ${size}\0`)
  for await (const chunk of createReadStream(full) as AsyncIterable<Buffer>) {
    sha256.update(chunk)
    sha1.update(chunk)
  }
  return { path, size, sha256: sha256.digest('hex'), gitOid: sha1.digest('hex'), content: pathToFileURL(full) }
}
