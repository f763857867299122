import { request } from 'node:http'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runTask, temporaryFolder } from './support/runs.js'

const get = (
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; body: string }> =>
  new Promise((resolve, reject) => {
    const asked = request(url, { headers, method }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    asked.on('error', reject)
    asked.end()
  })

describe('the dashboard', () => {
  it('serves the report and the events of a run while it goes, to this machine only', async () => {
    const folder = await temporaryFolder()
    const asked: Promise<void>[] = []
    const streams: Promise<{ body: string }>[] = []
    let url = ''
    const { result } = await runTask(folder, {
      options: { dashboard: 0 },
      on: {
        dashboard: (event) => {
          url = event.url
          streams.push(get(`${url}events`))
        },
        step: ({ record }) => {
          if (record.step !== 3) return
          const check = async (): Promise<void> => {
            const page = await get(url)
            expect(page.status).toBe(200)
            expect(page.body).toContain('new EventSource')
            expect((await get(`${url}content`)).body).toMatch(/step \d+ of 12/)
            expect((await get(`${url}other`)).status).toBe(404)
            expect((await get(url, {}, 'POST')).status).toBe(405)
            expect((await get(url, { host: 'evil.example' })).status).toBe(403)
          }
          asked.push(check())
        },
      },
    })
    await Promise.all(asked)
    expect(asked).toHaveLength(1)
    expect(result.status).toBe('finished')
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/)
    const [events] = await Promise.all(streams)
    const types = [...events.body.matchAll(/^event: (\w+)$/gm)].map((match) => match[1])
    expect(types).toEqual(expect.arrayContaining(['step', 'evaluate', 'save', 'stop', 'last']))
    expect(types.at(-1)).toBe('last')
    await expect(get(url)).rejects.toThrow('ECONNREFUSED')
  })

  it('says that its port is taken, before anything is trained', async () => {
    const folder = await temporaryFolder()
    let second: Promise<unknown> = Promise.resolve()
    await runTask(folder, {
      options: { dashboard: 0 },
      on: {
        dashboard: ({ url }) => {
          const dashboard = Number(new URL(url).port)
          second = temporaryFolder().then((other) => runTask(other, { options: { dashboard } }))
          second.catch(() => undefined)
        },
      },
    })
    await expect(second).rejects.toMatchObject({ code: 'MIRASTRAL_TRAINER_OPTIONS', exitCode: 2 })
    await expect(second).rejects.toThrow(/dashboard: port \d+ of 127\.0\.0\.1 must be free/)
  })
})

describe('the report file', () => {
  it('is written after each segment', async () => {
    const folder = await temporaryFolder()
    const report = (): Promise<string> => readFile(join(folder, 'report.html'), 'utf8')
    await runTask(folder, { stopWhen: (e) => e.type === 'step' && e.record.step === 5 })
    expect(await report()).toContain('stopped by test at step 5 of 12')
    await runTask(folder)
    expect(await report()).toContain('finished after step 12')
    expect(await report()).toContain('checkpoint-5')
  })
})
