import { readFile } from 'node:fs/promises'
import type { Hono } from 'hono'
import { InferError } from '../errors.js'
import type { ConversationGuard } from '../conversation-guard.js'
import { guardGenerator } from '../guarded-generator.js'
import { techniquePrompt, techniquePrompts } from '../prompts/index.js'
import { ProfileStore } from '../profile/profile-store.js'
import type { AppEnv, AppServices } from '../server/app.js'
import { jsonLog } from '../server/log.js'
import { checkAddress } from '../server/access.js'
import { loadPageAssets } from '../server/page-assets.js'
import { chatPageRoutes, defaultHelp } from '../server/page-routes.js'
import type { ChatPageOptions } from '../server/page-routes.js'
import { serve } from '../server/serve.js'
import type { RunningServer, ServeOptions } from '../server/serve.js'
import type { TextGenerator } from '../text-generator.js'
import { loadGenerator } from './load-generator.js'
import { loadGuard } from './load-guard.js'
import { readServeOptions, serveHelp } from './serve-options.js'
import type { ServeCommandOptions } from './serve-options.js'

/** What the command reads and writes besides files; a test gives its own. */
export interface CommandIo {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Calls the listener for each request to stop, such as Ctrl-C; gives back how to stop listening. */
  readonly onStop: (listener: () => void) => () => void
}

/** `mirastral serve`: resolves with the exit code when the server has stopped. Throws errors that carry an exit code. */
export async function serveCommand(argv: readonly string[], io: CommandIo): Promise<number> {
  const options = readServeOptions(argv)
  if (options === 'help') {
    io.out(serveHelp)
    return 0
  }
  const apiKeys = await readApiKeys(options, io.env)
  // Before a model is read, which takes its time.
  checkAddress(options.host, apiKeys)
  const guard = await loadGuard(options)
  const { generator: model, variants, dispose } = await loadGenerator(options, (line) => io.err(`${line}\n`))
  try {
    const guarded = (one: TextGenerator): TextGenerator => (guard === undefined ? one : guardGenerator(one, guard))
    const generator = guarded(model)
    const server = await serve({
      models: [generator, ...variants.map(guarded)],
      hostname: options.host,
      port: options.port,
      apiKeys,
      limits: limitsOf(options),
      log: jsonLog(io.err),
      ...(await pageRoutes(options, generator, { env: io.env, help: guard?.help })),
    })
    const page = options.page === 'on' ? `${server.url}/ is the chat page, ` : ''
    io.out(`${page}${server.url}/v1 the OpenAI-compatible API of ${generator.modelId}. Ctrl-C stops.\n`)
    if (guard === undefined)
      io.err(
        'WARNING: no safety guard is in the path: this is for trying a model, not for people in need (--no-guard)\n',
      )
    await untilStopped(server, io)
    return 0
  } finally {
    await dispose()
  }
}

async function readApiKeys(
  options: ServeCommandOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string[]> {
  const file = options['api-key-file']
  const text = file === undefined ? (env.MIRASTRAL_API_KEY ?? '') : await readOption('api-key-file', file)
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

async function readOption(name: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    const message = `mirastral serve: --${name}: cannot read ${path} (${reason})`
    throw new InferError('MIRASTRAL_INFER_OPTION', message, { cause: error })
  }
}

function limitsOf(options: ServeCommandOptions): NonNullable<ServeOptions['limits']> {
  const ms = (seconds: number | undefined): number | undefined =>
    seconds === undefined ? undefined : Math.max(1, Math.round(seconds * 1000))
  const limits = {
    concurrency: options.concurrency,
    queue: options.queue,
    queueMs: ms(options['queue-seconds']),
    requestMs: ms(options['request-seconds']),
    graceMs: ms(options['grace-seconds']),
    requestsPerMinute: options['requests-per-minute'],
    bodyBytes: options['max-body-bytes'],
  }
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined))
}

async function pageRoutes(
  options: ServeCommandOptions,
  generator: TextGenerator,
  { env, help = [] }: Pick<CommandIo, 'env'> & Pick<ConversationGuard, 'help'>,
): Promise<Pick<ServeOptions, 'routes'>> {
  if (options.page === 'off') return {}
  const profile = await openProfile(options.profile, env.MIRASTRAL_PROFILE_PASSPHRASE)
  const page: ChatPageOptions = {
    assets: await loadPageAssets(),
    generator,
    systemPrompt: await systemPromptOf(options, generator),
    generation: {
      temperature: options.temperature,
      topP: options['top-p'],
      ...(options['max-new-tokens'] === undefined ? {} : { maxNewTokens: options['max-new-tokens'] }),
    },
    ...(profile === undefined ? {} : { profile }),
    ...(options.title === undefined ? {} : { title: options.title }),
    ...(help.length === 0 ? {} : { help: { ...defaultHelp, resources: help } }),
  }
  return { routes: (app: Hono<AppEnv>, services: AppServices) => chatPageRoutes(app, services, page) }
}

/** The techniques as far as they leave most of the context window to the conversation, or what the person wrote. */
async function systemPromptOf(options: ServeCommandOptions, generator: TextGenerator): Promise<string> {
  const file = options['system-prompt']
  if (file !== undefined) return (await readOption('system-prompt', file)).trim()
  const techniques = techniquePrompts().flatMap(({ id, place }) => (place === 'chosen' ? [id] : []))
  const room = generator.contextLength / 3
  const fits = (content: string): boolean =>
    generator.countTokens([
      { role: 'system', content },
      { role: 'user', content: '' },
    ]) <= room
  return [techniquePrompt(techniques), techniquePrompt([])].find(fits) ?? ''
}

async function openProfile(
  path: string | undefined,
  passphrase: string | undefined,
): Promise<ProfileStore | undefined> {
  if (path === undefined) return undefined
  if (passphrase === undefined) {
    const message = 'mirastral serve: --profile: set the variable MIRASTRAL_PROFILE_PASSPHRASE to its passphrase'
    throw new InferError('MIRASTRAL_INFER_OPTION', message)
  }
  return ProfileStore.open({ path, passphrase })
}

/** The first request to stop lets answers end, the next one does not. */
async function untilStopped(server: RunningServer, io: CommandIo): Promise<void> {
  let stopListening: () => void = () => undefined
  await new Promise<void>((resolve, reject) => {
    let asked = false
    stopListening = io.onStop(() => {
      io.err(asked ? 'stopping now\n' : 'stopping when the answers have ended; again to stop now\n')
      asked = true
      server.close().then(resolve, reject)
    })
  })
  stopListening()
}
