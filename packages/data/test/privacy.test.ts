import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  Ledger,
  ConversationReader,
  formatReport,
  inspect,
  ledgerStatus,
  preflight,
  prepareDataset,
  preparePreferences,
} from '@mirastral/data'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { loadTokenizer, temporaryFolder } from './fixtures.js'

const SECRET = 'CANARYsecret'
const folder = temporaryFolder()
let planted = 0

/** A word that is found wherever it comes out. */
const canary = (): string => `${SECRET}${planted++}`

/** Every string of a value replaced by a canary, keys by name kept. */
function plant(value: unknown): unknown {
  if (typeof value === 'string')
    return /^(system|user|assistant|tool|function|human|gpt|f)$/.test(value) ? value : canary()
  if (Array.isArray(value)) return value.map(plant)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plant(member)]))
}

const call = { id: 'x', type: 'function', function: { name: 'f', arguments: { word: 'x' } } }
const WHOLE: Record<string, object> = {
  messages: {
    messages: [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'x' },
    ],
    note: 'x',
  },
  tools: {
    messages: [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'x', tool_calls: [call] },
      { role: 'tool', content: 'x', name: 'x' },
      { role: 'assistant', content: 'x' },
    ],
    tools: [{ type: 'function', function: { name: 'f', description: 'x', parameters: { title: 'x' } } }],
  },
  sharegpt: {
    conversations: [
      { from: 'human', value: 'x' },
      { from: 'gpt', value: 'x' },
    ],
  },
  alpaca: { instruction: 'x', input: 'x', output: 'x', history: [['x', 'x']] },
  completion: { prompt: 'x', completion: 'x' },
  context: { Context: 'x', Response: ['x', 'x'] },
  question: { question: 'x', answer: 'x' },
  preference: { prompt: 'x', chosen: 'x', rejected: 'x' },
  preferences: {
    chosen: [
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'x' },
    ],
    rejected: [
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'x' },
    ],
  },
  text: { text: 'x' },
}

/** Records of each format, broken in ways whose errors would like to quote them. */
const BROKEN: object[] = [
  { messages: [{ role: canary(), content: 'x' }] },
  { messages: [{ role: 'user', content: { [canary()]: canary() } }] },
  {
    messages: [
      { role: 'assistant', content: '', tool_calls: [{ function: { name: 'f', arguments: `{"${canary()}` } }] },
    ],
  },
  { messages: [{ role: 'user', content: [{ type: canary(), text: canary() }] }] },
  {
    messages: [
      { role: 'tool', content: canary() },
      { role: 'assistant', content: canary() },
    ],
  },
  {
    messages: [
      { role: 'user', content: `${canary()}\ud800` },
      { role: 'assistant', content: canary() },
    ],
  },
  { messages: [{ role: 'user', content: canary() }] },
  { conversations: [{ from: canary(), value: canary() }] },
  { instruction: canary(), output: canary(), history: canary() },
  { question: canary(), answers: [canary(), { [canary()]: 1 }] },
  { Context: canary(), Response: [5, canary()] },
  { [canary()]: canary() },
  { chosen: canary(), rejected: canary(), prompt: 5 },
  { chosen: [{ role: canary(), content: canary() }], rejected: canary(), prompt: canary() },
  { chosen: canary(), rejected: { [canary()]: canary() }, prompt: canary() },
  { chosen: { from: canary(), value: canary() }, rejected: canary(), conversations: canary() },
]

function writeFiles(): string {
  const path = join(folder, `run${planted}`)
  mkdirSync(path)
  for (const [name, record] of Object.entries(WHOLE)) {
    writeFileSync(join(path, `${name}.json`), JSON.stringify([plant(record), plant(record)]))
    writeFileSync(join(path, `${name}.jsonl`), `${JSON.stringify(plant(record))}\n{"${canary()}": "${canary()}\n`)
    writeFileSync(join(path, `${name}-cut.json`), JSON.stringify([plant(record), plant(record)]).slice(0, -4))
    writeFileSync(join(path, `${name}-bad.json`), `[${JSON.stringify(plant(record)).replace('":', '" ')}]`)
    writeFileSync(join(path, `${name}-plain.json`), `${canary()} is not JSON`)
    writeFileSync(
      join(path, `${name}-latin1.jsonl`),
      Buffer.from(JSON.stringify(plant(record)).replace('CANARY', 'ÉCANARY'), 'latin1'),
    )
    const keys = Object.keys(record)
    const cells = keys.map(() => canary()).join(',')
    writeFileSync(
      join(path, `${name}.csv`),
      `${keys.join(',')}\n${cells}\n${canary()},"${canary()}" ${canary()}\n"${canary()}`,
    )
    writeFileSync(join(path, `${name}.parquet`), `PAR1${canary()}PAR1`)
  }
  writeFileSync(join(path, 'broken.json'), JSON.stringify(BROKEN))
  return path
}

describe('privacy', () => {
  const printed: string[] = []

  beforeEach(() => {
    printed.length = 0
    for (const stream of [process.stdout, process.stderr]) {
      vi.spyOn(stream, 'write').mockImplementation((chunk) => {
        printed.push(String(chunk))
        return true
      })
    }
    for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
      vi.spyOn(console, method).mockImplementation((...parts: unknown[]) => {
        printed.push(parts.map(String).join(' '))
      })
    }
  })

  afterEach(() => {
    vi.restoreAllMocks()
  })

  it.each(['mistral-v3', 'mistral-v1', 'chatml'])(
    'nothing that is printed, thrown, reported or recorded holds a word of a conversation (%s)',
    async (name) => {
      const path = writeFiles()
      const state = `${path}-state`
      const said: string[] = []
      const hear = (error: unknown): void => {
        said.push(
          error instanceof Error
            ? `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`
            : String(error),
        )
      }
      const ledger = await Ledger.open(join(state, 'processed_files.jsonl'))
      const tokenizer = await loadTokenizer(name)
      const request = { inputs: [path], tokenizer, ledger, quarantine: join(state, 'quarantine.jsonl') }
      const options = { maxLength: 48, redact: true, threads: 0 }
      const data = await prepareDataset({ ...request, options })
      await data.commit({ steps: [1, 2], adapter: 'v1' })
      const pairs = await preparePreferences({
        inputs: [path],
        tokenizer,
        quarantine: join(state, 'pairs.jsonl'),
        options,
      })
      said.push(JSON.stringify(pairs.report), formatReport(pairs.report), JSON.stringify(inspect(pairs)))
      expect(pairs.report.totals.used).toBeGreaterThan(2)
      said.push(JSON.stringify(data.report), formatReport(data.report), JSON.stringify(data.manifest))
      said.push(JSON.stringify(inspect(data)), JSON.stringify(await ledgerStatus(ledger, [path])))
      try {
        preflight(data)
      } catch (error) {
        hear(error)
      }
      await prepareDataset({ ...request, options: { ...options, strict: true } }).catch(hear)
      await prepareDataset({ ...request, manifest: { ...data.manifest, files: [] } }).catch(hear)
      for (const file of readdirSync(path)) {
        const reader = new ConversationReader({ onDrop: (...drop) => said.push(JSON.stringify(drop)) })
        try {
          for await (const conversation of reader.read([join(path, file)])) {
            // What a caller does with a conversation that its template refuses.
            const odd = { ...conversation, turns: [...conversation.turns, ...conversation.turns.slice(-1)] }
            expect(() => tokenizer.encodeConversation(conversation)).not.toThrow(SECRET)
            expect(() => tokenizer.encodeConversation(odd)).not.toThrow(SECRET)
          }
        } catch (error) {
          hear(error)
        }
      }
      await ledger.close()
      for (const file of readdirSync(state)) said.push(readFileSync(join(state, file), 'latin1'))
      expect(data.report.totals.used).toBeGreaterThan(10)
      expect(Object.keys(data.report.totals.dropped).length).toBeGreaterThan(8)
      expect(said.join('\n').length).toBeGreaterThan(10_000)
      expect([...said, ...printed].filter((text) => text.includes('CANARY'))).toEqual([])
    },
  )
})
