import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeRandomModel } from '@mirastral/models'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startHubServer } from '../packages/lora/test/hub-server.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const script = ['--no-warnings', '--loader', 'ts-node/esm', 'examples/finetune.ts']

const config = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  vocab_size: 2048,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 512,
  sliding_window: null,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
}

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

let folder: string
const at = (...path: string[]): string => join(folder, ...path)

function finetune(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: root, env: { ...process.env, ...env } }
    execFile(process.execPath, [...script, '--threads', '1', ...args], options, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
    })
  })
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetune-'))
  await writeRandomModel(at('model'), config, { seed: 1 })
  await cp(join(root, 'examples/tokenizer'), at('model'), { recursive: true })
  await mkdir(at('data', 'worker1'), { recursive: true })
  await cp(join(root, 'examples/data/worker1/counselling-notes.json'), at('data', 'worker1', 'notes.json'))
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the fine-tune script', () => {
  const args = () => ['--model', at('model'), '--data', at('data'), '--out', at('out'), '--eval-fraction', '0.3']

  test('trains, says so, and has nothing to do the second time; a new file is trained on', async () => {
    const first = await finetune(args())
    expect(first.stderr).toBe('')
    expect(first.code).toBe(0)
    expect(first.stdout).toMatch(/6 of 6 records/)
    expect(first.stdout).toMatch(/train loss \d+\.\d+, eval loss \d+\.\d+/)
    expect(await readdir(at('out', 'final_model'))).toContain('adapter_model.safetensors')

    const second = await finetune(args())
    expect(second.stdout).toContain('nothing new to train on')
    expect(second.code).toBe(0)

    await cp(join(root, 'examples/data/worker2/questions.jsonl'), at('data', 'worker1', 'new.jsonl'))
    const third = await finetune(args())
    expect(third.stdout).toContain('run 2')
    expect(third.stdout).toContain('new.jsonl')
    expect(third.stdout).not.toContain('notes.json:')
    const ledger = (await readFile(at('out', 'processed_files.jsonl'), 'utf8')).trim().split('\n')
    expect(ledger.map((line) => (JSON.parse(line) as { rows: { used: number } }).rows.used)).toEqual([6, 6])
  })

  test('goes on after kill -9', async () => {
    const killed = [...args(), '--out', at('killed'), '--save-steps', '1', '--epochs', '40']
    const child = spawn(process.execPath, [...script, '--threads', '1', ...killed], { cwd: root, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    const isSaved = () => existsSync(at('killed', 'results', 'checkpoint-3'))
    while (!isSaved() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20))
    child.kill('SIGKILL')
    await ended
    const resumed = await finetune(killed)
    expect(resumed.stderr).toBe('')
    expect(resumed.stdout).toContain('reading the files of the interrupted run')
    expect(resumed.stdout).toMatch(/resuming from checkpoint-\d+/)
    expect(resumed.stdout).toContain('train loss')
  })

  test('learns preferences on a PiSSA adapter, and equals the undisturbed run after kill -9', async () => {
    const pairs = ['--objective', 'dpo', '--init', 'pissa', '--data', join(root, 'examples/data/preferences')]
    const options = ['--model', at('model'), ...pairs, '--save-steps', '1', '--epochs', '4', '--eval-fraction', '0.2']
    const whole = await finetune([...options, '--out', at('pairs')])
    expect(whole.stderr).toBe('')
    expect(whole.stdout).toMatch(/10 pairs to train on, 2 to evaluate on/)
    expect(whole.stdout).toMatch(/of the pairs ranked rightly, reward margin/)

    const out = at('pairs-killed')
    const args = [...script, '--threads', '1', ...options, '--out', out]
    const child = spawn(process.execPath, args, { cwd: root, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    const isSaved = () => existsSync(join(out, 'results', 'checkpoint-2'))
    while (!isSaved() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await ended
    expect((await finetune([...options, '--out', out])).stdout).toMatch(/resuming from checkpoint-\d+/)
    for (const file of ['final_model/adapter_model.safetensors', 'results/train.jsonl', 'results/eval.jsonl']) {
      expect((await readFile(join(out, file))).equals(await readFile(at('pairs', file))), file).toBe(true)
    }
  })

  test.each(['end', 'every_save'])('publishes the adapter with a card, and nothing else: %s', async (when) => {
    const hub = await startHubServer('hf_test')
    try {
      const env = { HF_ENDPOINT: hub.url, HF_TOKEN: 'hf_test' }
      const push = ['--push-to-hub', 'someone/adapter', '--push-when', when, '--save-steps', '1']
      const ended = await finetune([...args(), '--out', at(`published-${when}`), ...push], env)
      expect(ended.stderr).toBe('')
      expect(ended.code).toBe(0)
      expect(ended.stdout).toContain(`the final model is published at ${hub.url}/someone/adapter`)
      const { files } = hub.head('someone/adapter')
      expect([...files.keys()].sort()).toEqual([
        '.gitattributes',
        'README.md',
        'adapter_config.json',
        'adapter_model.safetensors',
      ])
      expect(hub.repos.get('someone/adapter')?.private).toBe(true)
    } finally {
      await hub.close()
    }
  })

  test('trains to its end where the Hub is down, and says that nothing was published', async () => {
    const env = { HF_ENDPOINT: 'http://127.0.0.1:9', HF_TOKEN: 'hf_test' }
    const push = ['--push-to-hub', 'someone/adapter', '--budget-minutes', '0.5']
    const ended = await finetune([...args(), '--out', at('unpublished'), ...push], env)
    expect(ended.stderr).toBe('')
    expect(ended.code).toBe(0)
    expect(ended.stdout).toContain('the final model is not published')
    expect(ended.stdout).toContain('the adapter is in')
  })
})

describe('a mistake of the user ends with one line and exit code 2', () => {
  const cases: [string, () => string[], RegExp][] = [
    ['an unknown option', () => ['--bogus', '1'], /^error: Unknown option '--bogus'; --help lists the options\n$/],
    ['a value out of range', () => ['--rank=-1'], /^error: --rank: .*; --help lists the options\n$/],
    [
      'no such data folder',
      () => ['--model', at('model'), '--data', at('nothing')],
      /^error: data: .*nothing cannot be opened/,
    ],
    [
      'an empty data folder',
      () => ['--model', at('model'), '--data', at('empty')],
      /^error: training data: must have at least one example/,
    ],
    [
      'a folder that is no model',
      () => ['--model', at('empty')],
      /^error: .*empty: must be a model folder with config.json/,
    ],
    [
      'modules that do not exist',
      () => ['--model', at('model'), '--data', at('data'), '--targets', 'x_proj'],
      /^error: LoRA targets: .*x_proj/,
    ],
  ]

  beforeAll(() => mkdir(at('empty')))

  test.each(cases)('%s', async (_title, args, message) => {
    const ended = await finetune([...args(), '--out', at('mistake')])
    expect(ended.stderr).toMatch(message)
    expect(ended.stderr.trim().split('\n')).toHaveLength(1)
    expect(ended.code).toBe(2)
  })

  test('broken JSON is named by file, without its text', async () => {
    await mkdir(at('broken'))
    await writeFile(at('broken', 'cut.json'), '[{"messages": [{"role": "user", "content": "a secret')
    const ended = await finetune(['--model', at('model'), '--data', at('broken'), '--out', at('mistake2')])
    expect(ended.stdout).toContain('cut.json: not used: truncated')
    expect(ended.stdout + ended.stderr).not.toContain('secret')
    expect(ended.code).toBe(2)
  })
})
