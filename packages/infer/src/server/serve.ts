import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import { InferError } from '../errors.js'
import { createApp, modelsOf } from './app.js'
import type { App, AppOptions } from './app.js'

export interface ServeOptions extends AppOptions {
  /** 0 takes a free one. Default 8080. */
  readonly port?: number
}

export interface RunningServer {
  /** `http://127.0.0.1:8080`, without a slash at the end. */
  readonly url: string
  readonly load: App['load']
  /**
   * Stops: no new requests, answers that are being made may end within the grace time, then everything is closed. Calling
   * it again closes at once.
   */
  close(): Promise<void>
}

/** Listens until it is closed. Throws `InferError` when the options do not fit or the address is taken. */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { hostname = '127.0.0.1', port = 8080, log = () => undefined } = options
  const app = createApp(options)
  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    // Against clients that open connections and send nothing, or endlessly slowly.
    serverOptions: { headersTimeout: 15_000, requestTimeout: 60_000, keepAliveTimeout: 5_000, maxHeaderSize: 16_384 },
  }) as Server
  server.maxConnections = 1024
  await listen(server, hostname, port)
  const address = server.address()
  const boundPort = typeof address === 'object' && address !== null ? address.port : port
  const url = `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${boundPort}`
  log({ event: 'listening', url, models: modelsOf(options)().map((model) => model.modelId) })

  let stop: (() => void) | undefined
  let closed: Promise<void> | undefined
  return {
    url,
    load: app.load,
    close() {
      stop?.()
      closed ??= closeGracefully(server, app, (hurry) => (stop = hurry)).then(() => log({ event: 'stopped' }))
      return closed
    },
  }
}

function listen(server: Server, hostname: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const message = `serve: cannot listen on ${hostname} port ${port}: ${error.message}`
      reject(new InferError('MIRASTRAL_INFER_SERVER', message, { cause: error }))
    })
    server.listen(port, hostname, resolve)
  })
}

async function closeGracefully(server: Server, app: App, onHurry: (hurry: () => void) => void): Promise<void> {
  app.refuse()
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  // A connection that is kept alive after its last answer would hold the server open.
  const idle = setInterval(() => server.closeIdleConnections(), 50)
  const hurried = new Promise<void>((resolve) => onHurry(resolve))
  const { promise: late, cancel } = delay(app.limits.graceMs)
  await Promise.race([closed, hurried, late])
  cancel()
  app.abort()
  // What was aborted says so to its client; a client that does not listen is cut off.
  const { promise: moment, cancel: cancelMoment } = delay(500)
  await Promise.race([closed, moment])
  cancelMoment()
  clearInterval(idle)
  server.closeAllConnections()
  await closed
}

function delay(ms: number): { promise: Promise<void>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined
  const promise = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  return { promise, cancel: () => clearTimeout(timer) }
}
