import { createHash, timingSafeEqual } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { InferError } from '../errors.js'
import { ApiError } from './api-error.js'

/** Whether only programs on this machine can reach the address. */
export function isLoopback(hostname: string): boolean {
  const name = hostname.toLowerCase().replace(/^\[|\]$/g, '')
  return name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'))
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** Compares in the same time whatever the keys are. */
export class ApiKeys {
  readonly #digests: readonly Buffer[]

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest)
  }

  get required(): boolean {
    return this.#digests.length > 0
  }

  /** Throws an `ApiError` unless the header holds one of the keys: `Bearer <key>`. */
  check(authorization: string | undefined): void {
    if (!this.required) return
    const given = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (given !== undefined) {
      const candidate = digest(given)
      if (this.#digests.filter((key) => timingSafeEqual(key, candidate)).length > 0) return
    }
    const message = 'An API key is needed: send the header "Authorization: Bearer <key>".'
    throw new ApiError(401, 'authentication_error', message, { code: 'invalid_api_key' })
  }
}

/** Throws `InferError` unless the keys fit the address that a server is to listen on. */
export function checkAddress(hostname: string, apiKeys: readonly string[]): void {
  const fail = (message: string): never => {
    throw new InferError('MIRASTRAL_INFER_SERVER', `serve: ${message}`)
  }
  if (!isLoopback(hostname) && apiKeys.length === 0) {
    fail(`an API key is needed for any address but 127.0.0.1 and ::1, got ${hostname}; set one`)
  }
  if (apiKeys.some((key) => key.length < 16)) fail('an API key must have at least 16 characters')
}

export interface RequestOrigin {
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly fetchSite: string | undefined
}

/**
 * Refuses what another web site's page sends through the visitor's browser. On a loopback address the `Host` must name
 * this machine too, or a foreign domain that was made to resolve to it (DNS rebinding) would count as the same site.
 */
export function checkOrigin(request: RequestOrigin, { loopback }: { readonly loopback: boolean }): void {
  const refuse = (message: string): never => {
    throw new ApiError(403, 'permission_error', message, { code: 'wrong_origin' })
  }
  const host = request.host?.toLowerCase() ?? ''
  if (loopback && !isLoopback(host.replace(/:\d+$/, '')))
    refuse('This server only answers under the name of this machine.')
  if (request.fetchSite === 'cross-site') refuse('Pages of other sites may not use this server.')
  if (request.origin === undefined) return
  const origin = URL.canParse(request.origin) ? new URL(request.origin).host : ''
  if (origin !== host) refuse('Pages of other sites may not use this server.')
}

/** Headers of every response: nothing is cached, framed, sniffed or told to others. */
export const securityHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}
