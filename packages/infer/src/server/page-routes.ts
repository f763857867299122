import { randomBytes } from 'node:crypto'
import type { Turn } from '@mirastral/data'
import type { Context, Hono } from 'hono'
import { z } from 'zod'
import { profilePart, systemTurns } from '../chat.js'
import { profileKinds } from '../profile/profile-store.js'
import type { ProfileStore } from '../profile/profile-store.js'
import { reply } from '../reply.js'
import type { ReplyLimits } from '../reply.js'
import type { GenerationOptions, Notice, TextGenerator } from '../text-generator.js'
import type { ChatTool } from '../tools.js'
import { ApiError } from './api-error.js'
import type { AppEnv, AppServices } from './app.js'
import { readJson } from './json-body.js'
import { contentSecurityPolicy } from './page-assets.js'
import type { PageAssets } from './page-assets.js'
import type { RequestRecord } from './request-record.js'
import { dataEvent } from './sse.js'

export interface ChatPageOptions {
  readonly assets: PageAssets
  /** What the page talks to. */
  readonly generator: TextGenerator
  readonly systemPrompt?: string
  readonly tools?: readonly ChatTool[]
  readonly generation?: GenerationOptions
  readonly limits?: Partial<ReplyLimits>
  /** The profile of the one person that this server is for; left out, the page has no profile. */
  readonly profile?: ProfileStore
  /** Tokens of the system prompt that the profile may take. */
  readonly profileTokens?: number
  readonly title?: string
  readonly greeting?: string
  /** Shown before the first message. */
  readonly disclaimer?: string
  /** Ways to begin, offered before the first message. */
  readonly starters?: readonly string[]
  /** Where to get help, behind the button "Help now". Default: emergency numbers and a directory of crisis lines. */
  readonly help?: Notice
}

/** What the page asks for when it opens. */
export interface PageSession {
  readonly title: string
  readonly greeting: string
  readonly disclaimer: string
  readonly starters: readonly string[]
  readonly help: Notice
  readonly hasProfile: boolean
}

/** Where to get help in some countries, and how to find it in others. */
export const defaultHelp: Notice = {
  category: 'help',
  severity: 'none',
  text: 'If you are in danger, or might harm yourself or somebody else, call the emergency number of your country now.',
  resources: [
    { name: 'Europe, and most mobile networks', phone: '112' },
    { name: 'United States and Canada', phone: '911', description: 'Suicide and crisis line: call or text 988' },
    { name: 'United Kingdom and Ireland', phone: '999', description: 'Samaritans: call 116 123' },
    { name: 'Australia', phone: '000', description: 'Lifeline: call 13 11 14' },
    {
      name: 'Crisis lines of other countries',
      url: 'https://findahelpline.com',
      description: 'A directory of lines that are free and confidential',
    },
  ],
}

const defaults = {
  title: 'MiraStral',
  greeting: 'What is on your mind today?',
  disclaimer:
    'You are talking with a computer program that listens and asks back. It is not a person, not a therapist and not a ' +
    'doctor, and it can be wrong. For diagnosis, treatment or an emergency, please turn to people who can help.',
  starters: ['I would like to sort out my week', 'I feel overwhelmed', 'Help me with a small goal'],
}

const text = z.string().max(20_000)
const turnSchema = z.discriminatedUnion('role', [
  z.object({ role: z.literal('user'), content: text }),
  z.object({
    role: z.literal('assistant'),
    content: text,
    toolCalls: z
      .array(z.object({ id: z.string(), name: z.string(), arguments: z.record(z.string(), z.unknown()) }))
      .max(64)
      .optional(),
  }),
  z.object({ role: z.literal('tool'), content: text, toolCallId: z.string(), name: z.string() }),
])
const chatSchema = z.object({ turns: z.array(turnSchema).min(1).max(1000) })
const newEntrySchema = z.object({ kind: z.enum(profileKinds), text, agreed: z.literal(true) })
const correctionSchema = z.object({ text })

/** The chat page, and what it calls: `/`, `/page/*` and `/api/*`. The server keeps no conversation; the page sends it. */
export function chatPageRoutes(app: Hono<AppEnv>, services: AppServices, options: ChatPageOptions): void {
  staticRoutes(app, options.assets)
  app.use('/api/*', async (c, next) => {
    services.checkAccess(c)
    await next()
  })
  app.get('/api/session', (c) => c.json(sessionOf(options)))
  app.post('/api/chat', (c) => answerChat(c, services, options))
  if (options.profile !== undefined) profileRoutes(app, options.profile)
}

function sessionOf(options: ChatPageOptions): PageSession {
  return {
    title: options.title ?? defaults.title,
    greeting: options.greeting ?? defaults.greeting,
    disclaimer: options.disclaimer ?? defaults.disclaimer,
    starters: options.starters ?? defaults.starters,
    help: options.help ?? defaultHelp,
    hasProfile: options.profile !== undefined,
  }
}

function staticRoutes(app: Hono<AppEnv>, { html, files }: PageAssets): void {
  app.get('/', (c) => {
    const nonce = randomBytes(18).toString('base64url')
    c.header('content-security-policy', contentSecurityPolicy(nonce))
    return c.html(html.replaceAll('{{nonce}}', nonce))
  })
  app.get('/page/:name', (c) => {
    const file = files.get(c.req.param('name'))
    if (file === undefined) return c.notFound()
    return c.body(file.text, 200, { 'content-type': file.type })
  })
}

async function answerChat(c: Context<AppEnv>, services: AppServices, options: ChatPageOptions): Promise<Response> {
  const { turns } = await readJson(c, chatSchema)
  const record = c.get('record')
  record.set({ model: options.generator.modelId, stream: true })
  return services.answering.stream(c.req.raw.signal, record, (signal) => chatEvents(turns, options, { signal, record }))
}

async function* chatEvents(
  turns: z.output<typeof chatSchema>['turns'],
  options: ChatPageOptions,
  { signal, record }: { readonly signal: AbortSignal; readonly record: RequestRecord },
): AsyncGenerator<string, void, void> {
  const { generator, systemPrompt = '', profile, profileTokens, tools, generation, limits } = options
  const known = profile === undefined ? '' : profilePart(profile.show(), generator, profileTokens)
  const conversation: Turn[] = [...systemTurns([systemPrompt, known]), ...turns.map(withoutUndefined)]
  const events = reply(conversation, {
    generator,
    signal,
    ...(tools === undefined ? {} : { tools }),
    ...(generation === undefined ? {} : { generation }),
    ...(limits === undefined ? {} : { limits }),
  })
  for await (const event of events) {
    if (event.type === 'finish') record.set({ ...event.usage, finish: event.reason })
    yield dataEvent(event)
  }
}

function withoutUndefined(turn: z.output<typeof turnSchema>): Turn {
  if (turn.role !== 'assistant') return turn
  const { role, content, toolCalls } = turn
  return toolCalls === undefined ? { role, content } : { role, content, toolCalls }
}

function profileRoutes(app: Hono<AppEnv>, profile: ProfileStore): void {
  app.get('/api/profile', (c) => c.json({ entries: profile.show() }))
  app.get('/api/profile/export', (c) =>
    c.body(profile.export(), 200, {
      'content-type': 'application/json; charset=utf-8',
      'content-disposition': 'attachment; filename="mirastral-profile.json"',
    }),
  )
  app.post('/api/profile', async (c) => c.json(await profile.add(await readJson(c, newEntrySchema)), 201))
  app.patch('/api/profile/:id', async (c) => {
    const { text: corrected } = await readJson(c, correctionSchema)
    return c.json(await profile.correct(knownId(profile, c.req.param('id')), corrected))
  })
  app.delete('/api/profile/:id', async (c) => {
    await profile.remove(knownId(profile, c.req.param('id')))
    return c.body(null, 204)
  })
  app.delete('/api/profile', async (c) => {
    await profile.deleteEverything()
    return c.body(null, 204)
  })
}

function knownId(profile: ProfileStore, id: string): string {
  if (profile.show().some((entry) => entry.id === id)) return id
  throw new ApiError(404, 'not_found_error', 'There is no such entry.')
}
