import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PublishRequest, TrainerEvent } from '@mirastral/trainer'
import { StopSource } from '@mirastral/trainer'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { evidence } from '../../lora/test/evidence.js'
import type { HubServer } from '../../lora/test/hub-server.js'
import { startHubServer } from '../../lora/test/hub-server.js'
import type { Outcome, RequestChanges } from './support/runs.js'
import { outcomeOf, runTask, temporaryFolder } from './support/runs.js'

const token = 'hf_for_the_tests_only'
const repo = 'me/helper'
let hub: HubServer
let folder: string

beforeEach(async () => {
  hub = await startHubServer(token)
  folder = await temporaryFolder()
})
afterEach(() => hub.close())

const request = (more: Partial<PublishRequest> = {}): PublishRequest => ({
  repo,
  when: 'every_save',
  evidence: (step) => Promise.resolve({ ...evidence, results: { ...evidence.results, steps: step } }),
  options: { accessToken: token, hubUrl: hub.url, backOff: { tries: 3, wait: () => Promise.resolve() } },
  ...more,
})

const run = (more: Partial<PublishRequest> = {}, changes: RequestChanges = {}): Promise<Outcome> =>
  runTask(folder, { publish: request(more), ...changes })

const told = ({ events }: Outcome): string[] => events.flatMap((e) => (e.type === 'publish' ? [e.message] : []))

/** Every published weights file, oldest first. */
const publishedWeights = (): string[] => {
  const commits = hub.repos.get(repo)?.commits ?? []
  return commits.flatMap(({ files }) => files.get('adapter_model.safetensors')?.content.toString('hex') ?? [])
}

const finalWeights = async (of = folder): Promise<string> =>
  (await readFile(join(of, 'final_model', 'adapter_model.safetensors'))).toString('hex')

/** Requests that are answered once `release` is called: a Hub that is slower than the training. */
function holdBack(path: string): { release: () => void; held: () => number } {
  const { fetch } = globalThis
  let held = 0
  let release: () => void = () => undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  waiting = async (input, init) => {
    if (String(input instanceof Request ? input.url : input).includes(path)) {
      held++
      const aborted = new Promise<never>((_resolve, reject) => {
        const give = (): void => reject(new Error('there was no time left'))
        if (init?.signal?.aborted === true) give()
        init?.signal?.addEventListener('abort', give)
      })
      await Promise.race([gate, aborted])
    }
    return fetch(input, init)
  }
  return { release, held: () => held }
}
let waiting: typeof fetch

describe('a run that publishes', () => {
  it('at every save brings the newest adapter to the Hub with its card, and at the end the final one', async () => {
    const outcome = await run()
    expect(outcome.result).toMatchObject({ status: 'finished', exitCode: 0 })
    expect(publishedWeights().at(-1)).toBe(await finalWeights())
    // The last save and the final model are the same bytes: whichever came first made the commit.
    expect(hub.head(repo).title).toMatch(/^(Final model, step|Step) 12$/)
    expect(hub.head(repo).files.get('README.md')?.content.toString()).toContain('# A listening helper')
    expect(told(outcome).at(-1)).toContain(`the final model is published at ${hub.url}/${repo}`)
    expect([...hub.head(repo).files.keys()].sort()).toEqual([
      '.gitattributes',
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
    ])
  })

  it('takes of the saves that the Hub was too slow for only the newest', async () => {
    const { release, held } = holdBack('/preupload/')
    const options = { accessToken: token, hubUrl: hub.url, fetch: waiting }
    const outcome = await run({ options }, { on: { save: ({ step }) => (step === 12 ? release() : undefined) } })
    expect(held()).toBeGreaterThan(0)
    expect(outcome.result.status).toBe('finished')
    const names = told(outcome).map((line) => line.split(' is ')[0])
    // The first was being published, and what came until the Hub answered waited, to be replaced by the newer ones.
    expect(names[0]).toBe('checkpoint-3')
    expect(names.slice(1, -1).filter((name) => name !== 'checkpoint-12')).toEqual([])
    expect(names.at(-1)).toBe('the final model')
  })

  it('only at the end makes one commit', async () => {
    const outcome = await run({ when: 'end' })
    expect(told(outcome)).toEqual([`the final model is published at ${hub.url}/${repo}`])
    expect(hub.repos.get(repo)?.commits.map((commit) => commit.title)).toEqual([
      'initial commit',
      'Final model, step 12',
    ])
  })

  it('is stopped: the last save is published before the process ends', async () => {
    const outcome = await run({}, { stopWhen: (e) => e.type === 'step' && e.record.step === 7 })
    expect(outcome.result).toMatchObject({ status: 'stopped', exitCode: 0 })
    expect(told(outcome).at(-1)).toBe(`checkpoint-7 is published at ${hub.url}/${repo}`)
    const saved = await readFile(join(folder, 'results', 'checkpoint-7', 'adapter_model.safetensors'))
    expect(publishedWeights().at(-1)).toBe(saved.toString('hex'))
    expect(existsSync(join(folder, 'final_model'))).toBe(false)
  })

  it('gives the bits of one that does not, and leaves no links behind', async () => {
    await run()
    const plain = await temporaryFolder()
    await runTask(plain)
    expect(await outcomeOf(folder, 'checkpoint-12')).toEqual(await outcomeOf(plain, 'checkpoint-12'))
    expect((await readdir(join(folder, 'results'))).filter((name) => name.startsWith('.'))).toEqual([])
    expect((await readdir(folder)).filter((name) => name.startsWith('.publishing'))).toEqual([])
  })
})

describe('a run whose Hub', () => {
  const faults: [string, () => Promise<void> | void, Partial<PublishRequest>, RegExp][] = [
    [
      'is down',
      () => hub.close(),
      {},
      /is not published: reading me\/helper: the Hub cannot be reached \(ECONNREFUSED\)/,
    ],
    ['is always busy', () => void (hub.fault = () => 503), {}, /is not published: .*\(status 503\)/],
    [
      'refuses the upload',
      () => void (hub.fault = (_m, p) => (p.includes('/commit/') ? 403 : undefined)),
      {},
      /may not write/,
    ],
    [
      'does not know the token',
      () => undefined,
      { options: { accessToken: 'hf_another' } },
      /the access token is not valid \(status 401\)/,
    ],
    [
      'breaks every upload off',
      () => void (hub.fault = (m) => (m === 'PUT' ? 'drop' : undefined)),
      {},
      /is not published: /,
    ],
  ]

  it.each(faults)(
    '%s goes on to its end and says so, once for the saves and once for the end',
    async (_t, break_, more, line) => {
      await break_()
      const options = { ...request().options, ...more.options }
      const outcome = await run({ options })
      expect(outcome.result).toMatchObject({ status: 'finished', exitCode: 0, step: 12 })
      expect(outcome.warnings).toEqual([])
      const lines = told(outcome)
      for (const each of lines) expect(each).toMatch(line)
      expect(lines.at(-1)).toMatch(
        /^the final model is not published: .*; run the same command again to try once more$/,
      )
      expect(lines.length).toBeLessThanOrEqual(2)
      expect(lines.join()).not.toContain('hf_')
    },
  )

  it('cannot be asked, for there is no token or no such name, is told at the start', async () => {
    const nameless = await run({ repo: 'helper' })
    expect(nameless.result).toMatchObject({ status: 'finished', exitCode: 0 })
    const types = nameless.events.map((event) => event.type)
    expect(types.indexOf('publish')).toBeLessThan(types.indexOf('step'))
    expect(told(nameless)).toEqual([
      'nothing can be published as it is: repository: must be owner/name, got "helper"; training goes on',
      'checkpoint-3 is not published: repository: must be owner/name, got "helper"',
      'the final model is not published: repository: must be owner/name, got "helper"; run the same command again to try once more',
    ])
  })

  it('goes away in the middle is told, and the next start, with nothing new to train on, publishes', async () => {
    let commits = 0
    hub.fault = (_method, path) => (path.includes('/commit/') && ++commits > 1 ? 'drop' : undefined)
    const first = await run()
    expect(first.result.status).toBe('finished')
    expect(told(first).at(-1)).toMatch(/^the final model is not published: /)
    hub.fault = undefined
    const second = await run()
    expect(second.result).toMatchObject({ status: 'nothing-new', exitCode: 0 })
    expect(told(second)).toEqual([`the final model is published at ${hub.url}/${repo}`])
    expect(publishedWeights().at(-1)).toBe(await finalWeights())
    expect(told(await run())).toEqual([`the final model is published at ${hub.url}/${repo} (it was there already)`])
  })

  it('never answers is given up in bounded time, at the end and, sooner, when a stop comes', async () => {
    holdBack('/api/')
    const options = { accessToken: token, hubUrl: hub.url, fetch: waiting }
    const bounded = await run({ options, finishedWaitSeconds: 0.05 })
    expect(bounded.result.status).toBe('finished')
    expect(told(bounded).at(-1)).toMatch(/^the final model is not published: /)

    const stop = new StopSource()
    const onStop = (event: TrainerEvent): boolean => {
      if (event.type === 'stop') setTimeout(() => stop.request({ kind: 'request', by: 'test' }), 5)
      return false
    }
    const waits = { options, finishedWaitSeconds: 1e6, stoppedWaitSeconds: 0.05 }
    const hurried = await run(waits, { stop, stopWhen: onStop })
    expect(hurried.result.status).toBe('nothing-new')
    expect(told(hurried).at(-1)).toMatch(/^the final model is not published: /)
  })

  it('cannot be told anything, for the evidence fails, does not end the run either', async () => {
    const outcome = await run({ evidence: () => Promise.reject(new Error('no records')) })
    expect(outcome.result).toMatchObject({ status: 'finished', exitCode: 0 })
    expect(told(outcome)).toEqual([
      'checkpoint-3 is not published: no records',
      'the final model is not published: no records',
    ])
    expect(hub.requests).toEqual([])
  })
})

it('links that a killed process left are swept away', async () => {
  await mkdir(join(folder, 'results', '.publishing-checkpoint-3-x'), { recursive: true })
  await mkdir(join(folder, '.publishing-final_model-y'))
  await runTask(folder)
  expect(await readdir(join(folder, 'results'))).not.toContain('.publishing-checkpoint-3-x')
  expect(await readdir(folder)).not.toContain('.publishing-final_model-y')
})
