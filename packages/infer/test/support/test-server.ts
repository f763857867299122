import { serve } from '@mirastral/infer'
import type { LogRecord, RunningServer, ServeOptions } from '@mirastral/infer'
import OpenAI from 'openai'
import { afterEach } from 'vitest'

export interface TestServer extends RunningServer {
  readonly client: OpenAI
  readonly log: LogRecord[]
}

const running = new Set<RunningServer>()

afterEach(async () => {
  const servers = [...running]
  running.clear()
  await Promise.all(servers.flatMap((server) => [server.close(), server.close()]))
})

/** A server on a free port that is closed after the test, with the official client for it. */
export async function startTestServer(options: ServeOptions): Promise<TestServer> {
  const log: LogRecord[] = []
  const server = await serve({ port: 0, log: (record) => log.push(record), ...options })
  running.add(server)
  const apiKey = options.apiKeys?.[0] ?? 'not-needed'
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 })
  return Object.assign(server, { client, log })
}

/** Waits until the condition holds, for at most five seconds. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
