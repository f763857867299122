import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { TrainerError } from './errors.js'
import type { TrainerEvents } from './events.js'
import type { ReportData } from './report/data.js'
import { renderContent, renderPage } from './report/page.js'

export interface Dashboard {
  /** `http://127.0.0.1:<port>/`. */
  readonly url: string
  /** Shows what came last to everybody who is watching, and ends. */
  close(): Promise<void>
}

export interface DashboardOptions {
  /** 0 takes a free port. */
  readonly port: number
  readonly events: TrainerEvents
  readonly readData: () => Promise<ReportData>
}

const address = '127.0.0.1'

/** Fetches the page's content anew after each event, at most once a second; the last content comes with the stream itself. */
const script = `
let timer = 0
const main = document.querySelector('main')
const show = (html) => { main.innerHTML = html }
const refresh = () => { timer ||= setTimeout(async () => {
  timer = 0
  try { show(await (await fetch('/content')).text()) } catch { /* the run has ended: the page keeps what it has */ }
}, 1000) }
const stream = new EventSource('/events')
for (const type of ['start', 'step', 'evaluate', 'save', 'stop']) stream.addEventListener(type, refresh)
stream.addEventListener('last', (event) => { stream.close(); clearTimeout(timer); show(JSON.parse(event.data)) })
`

/**
 * Serves the report of a run while it goes, on 127.0.0.1 only, with server-sent events at `/events`.
 * @throws TrainerError `MIRASTRAL_TRAINER_OPTIONS` if the port is taken.
 */
export async function serveDashboard({ port, events, readData }: DashboardOptions): Promise<Dashboard> {
  const watchers = new Set<ServerResponse>()
  const server = createServer((request, response) => {
    answer(request, response, watchers, readData).catch(() => {
      // The page asks again after the next event.
      if (!response.headersSent) response.writeHead(500)
      response.end()
    })
  })
  await listen(server, port)
  const remove = events.onAny((event) => broadcast(watchers, event.type, event))
  const { port: actual } = server.address() as AddressInfo
  return {
    url: `http://${address}:${actual}/`,
    close: async () => {
      remove()
      // Without the last content the page keeps what it has.
      const last = await readData().catch(() => null)
      if (last !== null) broadcast(watchers, 'last', renderContent(last))
      for (const watcher of watchers) watcher.end()
      server.closeIdleConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, address, resolve)
  }).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error)
    const message = `dashboard: port ${port} of ${address} must be free, got ${reason}; choose another one, or 0 for any`
    throw new TrainerError('MIRASTRAL_TRAINER_OPTIONS', message, 2, { cause: error })
  })
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  watchers: Set<ServerResponse>,
  readData: () => Promise<ReportData>,
): Promise<void> {
  // A page of another site whose name was pointed at 127.0.0.1 would send that name here.
  const host = request.headers.host?.replace(/:\d+$/, '')
  if (host !== address && host !== 'localhost') return refuse(response, 403)
  if (request.method !== 'GET') return refuse(response, 405)
  const headers = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  const html = { ...headers, 'content-type': 'text/html; charset=utf-8' }
  switch (request.url ?? '') {
    case '/':
      response.writeHead(200, html)
      response.end(renderPage(await readData(), { script }))
      return
    case '/content':
      response.writeHead(200, html)
      response.end(renderContent(await readData()))
      return
    case '/events':
      response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' })
      response.write(': watching\n\n')
      watchers.add(response)
      response.on('close', () => watchers.delete(response))
      return
    default:
      refuse(response, 404)
  }
}

function refuse(response: ServerResponse, status: number): void {
  response.writeHead(status)
  response.end()
}

/** A watcher that does not read is left out, so that nothing piles up for it. */
const maxUnread = 1 << 20

function broadcast(watchers: ReadonlySet<ServerResponse>, type: string, data: unknown): void {
  for (const watcher of watchers) {
    if (watcher.writableLength < maxUnread) watcher.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`)
  }
}
