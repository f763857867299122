import { setMaxListeners } from 'node:events'
import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { Context } from 'hono'
import { routePath } from 'hono/route'
import { InferError } from '../errors.js'
import type { TextGenerator } from '../text-generator.js'
import { ApiKeys, checkAddress, checkOrigin, isLoopback, securityHeaders } from './access.js'
import { Admission } from './admission.js'
import { Answering, ClientGone } from './answering.js'
import { ApiError, loggableError, toApiError } from './api-error.js'
import { limitsSchema } from './limits.js'
import type { ServerLimits } from './limits.js'
import type { Log } from './log.js'
import { openaiRoutes } from './openai/routes.js'
import { RateLimit } from './rate-limit.js'
import { RequestRecord } from './request-record.js'

export interface AppEnv {
  Bindings: HttpBindings
  Variables: { record: RequestRecord; /** The greatest body. */ bodyBytes: number }
}

export interface AppOptions {
  /**
   * What answers; clients choose by `modelId`. A function is asked at every request, where models come and go, such as the
   * adapters of a generator.
   */
  readonly models: readonly TextGenerator[] | (() => readonly TextGenerator[])
  /** The address that the server listens on; decides whether an API key is needed. Default 127.0.0.1. */
  readonly hostname?: string
  /** Needed for every address but loopback ones. */
  readonly apiKeys?: readonly string[]
  readonly limits?: Partial<ServerLimits>
  readonly log?: Log
  /** Adds routes of the application's own, such as the chat page's. */
  readonly routes?: (app: Hono<AppEnv>, services: AppServices) => void
}

/** What routes need to answer. */
export interface AppServices {
  /** What answers now, by `modelId`. */
  readonly models: () => ReadonlyMap<string, TextGenerator>
  readonly answering: Answering
  /** Throws an `ApiError` unless the request holds an API key, where one is needed, and is not one too many. */
  readonly checkAccess: (c: Pick<Context<AppEnv>, 'req' | 'env'>) => void
  /** Seconds since 1970 when the server was created. */
  readonly created: number
}

export interface App {
  readonly fetch: Hono<AppEnv>['fetch']
  readonly limits: ServerLimits
  /** Answers that are being made, and requests that wait. */
  readonly load: () => { readonly active: number; readonly queued: number }
  /** Refuses new answers from now on. */
  readonly refuse: () => void
  /** Aborts the answers that are being made. */
  readonly abort: () => void
}

/**
 * The server as a function from requests to responses. Throws `InferError` when the options do not fit together: no model,
 * two of the same name, or an address that others can reach without an API key.
 */
export function createApp(options: AppOptions): App {
  const { hostname = '127.0.0.1', log = () => undefined } = options
  const { apiKeys = [] } = options
  checkAddress(hostname, apiKeys)
  const models = modelsOf(options)
  checkModels(models())
  const keys = new ApiKeys(apiKeys)
  const limits = limitsSchema.parse(options.limits ?? {})
  const admission = new Admission(limits)
  const kill = new AbortController()
  // Every answer that is being made listens, and stops listening when it ends.
  setMaxListeners(0, kill.signal)
  const answering = new Answering({ admission, requestMs: limits.requestMs, kill: kill.signal, log })
  const rates = new RateLimit(limits.requestsPerMinute)
  let stopping = false

  const app = new Hono<AppEnv>()
  app.use(async (c, next) => {
    const record = new RequestRecord(log, c.req.method)
    c.set('record', record)
    c.set('bodyBytes', limits.bodyBytes)
    await next()
    c.header('x-request-id', record.id)
    for (const [name, value] of Object.entries(securityHeaders)) c.header(name, value)
    record.route = routePath(c, -1)
    if (!record.endsLater) record.end(c.res.status)
  })
  app.use(async (c, next) => {
    const { host, origin } = c.req.header()
    checkOrigin({ host, origin, fetchSite: c.req.header('sec-fetch-site') }, { loopback: isLoopback(hostname) })
    await next()
  })
  app.onError((error, c) => errorResponse(error, c, log))
  app.notFound(() => errorBody(new ApiError(404, 'not_found_error', 'There is nothing here.')))

  app.get('/health', (c) => {
    const status = stopping ? 'stopping' : 'ok'
    return c.json({ status, active: admission.active, queued: admission.queued }, stopping ? 503 : 200)
  })
  const services: AppServices = {
    models: () => new Map(models().map((model) => [model.modelId, model])),
    answering,
    checkAccess: (c) => {
      const authorization = c.req.header('authorization')
      try {
        keys.check(authorization)
      } catch (error) {
        // Guessing keys is limited too.
        checkRate(rates, `refused ${callerAddress(c)}`)
        throw error
      }
      checkRate(rates, keys.required ? `key ${authorization ?? ''}` : `from ${callerAddress(c)}`)
    },
    created: Math.floor(Date.now() / 1000),
  }
  openaiRoutes(app, services)
  options.routes?.(app, services)

  return {
    fetch: app.fetch,
    limits,
    load: () => ({ active: admission.active, queued: admission.queued }),
    refuse: () => {
      stopping = true
      admission.close()
    },
    abort: () => kill.abort(new ApiError(503, 'server_error', 'The server is stopping.', { code: 'stopping' })),
  }
}

export const modelsOf = ({ models }: Pick<AppOptions, 'models'>): (() => readonly TextGenerator[]) =>
  typeof models === 'function' ? models : () => models

function checkModels(models: readonly TextGenerator[]): void {
  const names = new Set(models.map((model) => model.modelId))
  if (names.size > 0 && names.size === models.length) return
  const rule = names.size === 0 ? 'at least one model is needed' : 'every model needs a name of its own'
  throw new InferError('MIRASTRAL_INFER_SERVER', `serve: ${rule}`)
}

function checkRate(rates: RateLimit, caller: string): void {
  const retryAfter = rates.take(caller)
  if (retryAfter === 0) return
  const message = `Too many requests in a minute. Try again in ${retryAfter} seconds.`
  throw new ApiError(429, 'rate_limit_error', message, { code: 'rate_limit_exceeded', retryAfter })
}

/** Requests that are made without a socket, as in tests, all count as one caller. */
function callerAddress({ env }: Pick<Context<AppEnv>, 'env'>): string {
  return (env as Partial<HttpBindings> | undefined)?.incoming?.socket.remoteAddress ?? ''
}

function errorBody(error: ApiError): Response {
  const { retryAfter } = error.details
  const response = Response.json(error, { status: error.status })
  if (retryAfter !== undefined) response.headers.set('retry-after', String(retryAfter))
  return response
}

function errorResponse(error: Error, c: Context<AppEnv>, log: Log): Response {
  if (error instanceof ClientGone) return new Response(null, { status: 499 })
  const shown = toApiError(error)
  if (shown.status === 500) log({ event: 'error', id: c.get('record').id, error: loggableError(error) })
  return errorBody(shown)
}
