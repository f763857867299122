// Speed of data preparation: generated conversations as JSON lines, read, validated, deduplicated, templated, tokenized,
// split and packed; on one core and on all, beside TRL and datasets doing the same on the same machine.
//
//   node --no-warnings --loader ts-node/esm data.ts [--rows 200000] [--tokenizer ../examples/tokenizer] [--peer-rows 200000]
//
// MIRASTRAL_PYTHON names a Python with datasets, transformers and trl (default python3); without one the peer is left out.
import { spawn, spawnSync } from 'node:child_process'
import { createWriteStream, existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ChatTokenizer, ConversationReader, PackedRows, preflight, prepareDataset } from '@mirastral/data'
import type { DataOptions } from '@mirastral/data'
import { conversationLines } from './lib/conversations.js'

interface Measured {
  what: string
  rows: number
  seconds: number
  cpuSeconds: number
  peakMegabytes: number
  detail: string
}

const { values: args } = parseArgs({
  options: {
    rows: { type: 'string', default: '200000' },
    'peer-rows': { type: 'string' },
    tokenizer: { type: 'string', default: fileURLToPath(new URL('../examples/tokenizer', import.meta.url)) },
    measure: { type: 'string' },
    file: { type: 'string', default: '' },
  },
})
const rows = Number(args.rows)

if (args.measure === undefined) await main()
else process.stdout.write(`${JSON.stringify(await measure(args.measure, args.file, args.tokenizer))}\n`)

async function main(): Promise<void> {
  const cores = availableParallelism()
  const folder = await mkdtemp(join(tmpdir(), 'bench-data-'))
  try {
    const file = join(folder, 'conversations.jsonl')
    await writeConversations(file, rows)
    const { size } = await stat(file)
    console.log(
      `${rows} conversations, ${(size / 1e6).toFixed(0)} MB of JSON lines, ${cores} cores, Node ${process.version}`,
    )
    for (const what of ['read', 'tokenizer', 'one', 'one-exact', 'one-cached', 'all', 'again']) {
      show(await inChild(what, file), size)
    }
    await peer(file, folder, size)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Each measurement has a process of its own, for its peak memory. */
async function inChild(what: string, file: string): Promise<Measured> {
  const script = fileURLToPath(import.meta.url)
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, '--measure', what, '--file', file, '--tokenizer', args.tokenizer],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let out = ''
  for await (const chunk of child.stdout) out += String(chunk)
  return JSON.parse(out) as Measured
}

async function measure(what: string, file: string, tokenizer: string): Promise<Measured> {
  const start = performance.now()
  const { rows, detail } = await work(what, file, tokenizer)
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage()
  return {
    what,
    rows,
    seconds,
    cpuSeconds: (user + system) / 1e6,
    peakMegabytes: process.resourceUsage().maxRSS / 1000,
    detail,
  }
}

async function work(what: string, file: string, tokenizer: string): Promise<{ rows: number; detail: string }> {
  const cacheDir = `${file}.cache`
  switch (what) {
    case 'read': {
      let count = 0
      for await (const conversation of new ConversationReader().read([file]))
        count += conversation.turns.length > 0 ? 1 : 0
      return { rows: count, detail: 'read, detected and validated only' }
    }
    case 'tokenizer':
      return await libraryAlone(file, tokenizer)
    case 'one':
      return await prepared(file, tokenizer, { threads: 0 })
    case 'one-exact':
      return await prepared(file, tokenizer, { threads: 0, duplicates: 'exact' })
    case 'one-cached':
      return await prepared(file, tokenizer, { threads: 0 }, cacheDir)
    case 'all':
      return await prepared(file, tokenizer, { threads: availableParallelism() })
    case 'again':
      return await prepared(file, tokenizer, { threads: 0 }, cacheDir)
    default:
      throw new Error(`bench: no measurement ${what}`)
  }
}

async function prepared(
  file: string,
  tokenizer: string,
  options: DataOptions,
  cacheDir?: string,
): ReturnType<typeof work> {
  const cache = cacheDir === undefined ? {} : { cacheDir }
  const data = await prepareDataset({ inputs: [file], tokenizer, options, ...cache })
  const { totals, train } = data.report
  const packed = new PackedRows(data.train, 256)
  const fill = ((100 * train.tokens) / (packed.length * 256)).toFixed(1)
  if (options.threads === 0 && cacheDir === undefined) preflight(data)
  data.close()
  const dropped = Object.values(totals.dropped).reduce((sum, count) => sum + count, 0)
  return {
    rows: totals.read,
    detail: `${totals.duplicates.exact} + ${totals.duplicates.near} duplicates, ${dropped} dropped, ${train.tokens} tokens, ${packed.length} packed rows ${fill}% full`,
  }
}

interface Library {
  PreTrainedTokenizer: new (
    tokenizer: unknown,
    config: unknown,
  ) => {
    encode(text: string, options: { add_special_tokens: boolean }): number[]
  }
}

/** The library that @mirastral/data depends on, as it is. */
function transformersTokenizer(folder: string): InstanceType<Library['PreTrainedTokenizer']> {
  const { PreTrainedTokenizer } = createRequire(import.meta.resolve('@mirastral/data'))(
    '@huggingface/transformers',
  ) as Library
  const json = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'))
  return new PreTrainedTokenizer(json('tokenizer.json'), json('tokenizer_config.json'))
}

/** What the tokenizer of @huggingface/transformers takes for the same texts, each rendered conversation in one call. */
async function libraryAlone(file: string, folder: string): ReturnType<typeof work> {
  const tokenizer = await ChatTokenizer.fromFolder(folder)
  const library = transformersTokenizer(folder)
  const texts: string[] = []
  for await (const { turns } of new ConversationReader().read([file])) {
    texts.push(tokenizer.render(turns))
    if (texts.length === 5000) break
  }
  const time = (encode: (text: string) => unknown): number => {
    const start = performance.now()
    for (const text of texts) encode(text)
    return (performance.now() - start) / 1000
  }
  const theirs = time((text) => library.encode(text, { add_special_tokens: false }))
  const ours = time((text) => tokenizer.encodeRendered(text))
  const perSecond = (seconds: number): string => `${(texts.length / seconds).toFixed(0)} conversations/s`
  return {
    rows: texts.length,
    detail: `library alone ${perSecond(theirs)}, with the cache of words ${perSecond(ours)}`,
  }
}

async function writeConversations(path: string, count: number): Promise<void> {
  const out = createWriteStream(path)
  for (const line of conversationLines(count)) {
    if (!out.write(line)) await new Promise<void>((resolve) => out.once('drain', () => resolve()))
  }
  out.end()
  await finished(out)
}

function show({ what, rows: done, seconds, cpuSeconds, peakMegabytes, detail }: Measured, bytes: number): void {
  const rate = `${(done / seconds).toFixed(0).padStart(7)} rows/s ${((bytes * done) / rows / seconds / 1e6).toFixed(1).padStart(6)} MB/s`
  console.log(
    `${what.padEnd(12)} ${seconds.toFixed(1).padStart(6)} s (${cpuSeconds.toFixed(1).padStart(6)} s CPU) ${rate} ${peakMegabytes.toFixed(0).padStart(5)} MB peak  ${detail}`,
  )
}

async function peer(file: string, folder: string, bytes: number): Promise<void> {
  const python = process.env.MIRASTRAL_PYTHON ?? 'python3'
  const check = spawnSync(python, ['-c', 'import datasets, transformers, trl'], { stdio: 'ignore' })
  if (check.status !== 0) {
    console.log(`no peer: ${python} has no datasets, transformers and trl (set MIRASTRAL_PYTHON)`)
    return
  }
  const script = fileURLToPath(new URL('peers/data_peer.py', import.meta.url))
  await mkdir(join(folder, 'peer'), { recursive: true })
  for (const processes of [1, availableParallelism()]) {
    const limit = args['peer-rows'] ?? args.rows
    const child = spawn(python, [script, file, args.tokenizer, join(folder, 'peer'), String(processes), limit], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    for await (const chunk of child.stdout) out += String(chunk)
    for (const line of out
      .trim()
      .split('\n')
      .filter((text) => text.startsWith('{')))
      show(JSON.parse(line) as Measured, bytes)
  }
  if (!existsSync(file)) throw new Error('bench: the peer removed the input')
}
