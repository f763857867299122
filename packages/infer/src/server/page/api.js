// @ts-check

/** @typedef {import('../../reply.js').ChatEvent} ChatEvent */
/** @typedef {import('@mirastral/data').Turn} Turn */
/** @typedef {import('../page-routes.js').PageSession} PageSession */
/** @typedef {import('../../profile/profile-store.js').ProfileEntry} ProfileEntry */
/** @typedef {import('../../profile/profile-store.js').ProfileKind} ProfileKind */

/** What the server said when it refused; `status` 401 asks for a key. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** Kept in memory only. */
let accessKey = ''

/** @param {string} key */
export function useKey(key) {
  accessKey = key
}

/**
 * @param {string} path
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
async function call(path, { method = 'GET', body, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {}
  if (accessKey !== '') headers.authorization = `Bearer ${accessKey}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
  })
  if (response.ok) return response
  /** @type {{ error?: { message?: string } }} */
  const problem = await response.json().catch(() => ({}))
  throw new Refused(response.status, problem.error?.message ?? `The server answered with status ${response.status}.`)
}

/** @returns {Promise<PageSession>} */
export const session = async () => (await call('api/session')).json()

/** @returns {Promise<ProfileEntry[]>} */
export const profileEntries = async () => (await (await call('api/profile')).json()).entries

/** @param {{ kind: ProfileKind, text: string, agreed: true }} entry */
export const addEntry = (entry) => call('api/profile', { method: 'POST', body: entry })

/**
 * @param {string} id
 * @param {string} text
 */
export const correctEntry = (id, text) =>
  call(`api/profile/${encodeURIComponent(id)}`, { method: 'PATCH', body: { text } })

/** @param {string} id */
export const removeEntry = (id) => call(`api/profile/${encodeURIComponent(id)}`, { method: 'DELETE' })

export const deleteProfile = () => call('api/profile', { method: 'DELETE' })

export const exportProfile = async () => (await call('api/profile/export')).blob()

/**
 * The events of one reply as they come.
 * @param {readonly Turn[]} turns
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ChatEvent, void, void>}
 */
export async function* reply(turns, signal) {
  const response = await call('api/chat', { method: 'POST', body: { turns }, signal })
  if (response.body === null) throw new Refused(500, 'The server sent no answer.')
  for await (const data of serverSentData(response.body)) {
    const event = JSON.parse(data)
    if (event.error !== undefined) throw new Refused(500, String(event.error.message))
    yield event
  }
}

/**
 * The data of server-sent events.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string, void, void>}
 */
async function* serverSentData(body) {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ''
  for (;;) {
    const { done, value } = await reader.read()
    text += done ? decoder.decode() : decoder.decode(value, { stream: true })
    const events = text.split('\n\n')
    text = events.pop() ?? ''
    for (const event of events) if (event.startsWith('data: ')) yield event.slice('data: '.length)
    if (done) return
  }
}
