import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SafetensorsFile } from '@mirastral/safetensors'
import type { TrainerEvent, TrainingOptionsInput, TrainRequest, TrainResult } from '@mirastral/trainer'
import { StopSource, train, TrainerEvents } from '@mirastral/trainer'
import { onTestFinished } from 'vitest'
import type { PairBatch } from './bigram-step.js'
import { identity, makeEvaluation, makePairs, makeStep, saveAdapter } from './task.js'

export async function temporaryFolder(): Promise<string> {
  // In memory where there is such a place: a checkpoint flushes every file, which a disk takes its time for.
  const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const folder = await mkdtemp(join(parent, 'mirastral-trainer-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export const testOptions: TrainingOptionsInput = {
  learningRate: 0.05,
  numTrainEpochs: 2,
  saveSteps: 3,
  evalStrategy: 'steps',
  evalSteps: 4,
  budgetMinutes: null,
}

export interface Outcome {
  readonly result: TrainResult
  readonly events: TrainerEvent[]
  readonly warnings: string[]
}

export type RequestChanges = Partial<Omit<TrainRequest<PairBatch>, 'outputDir'>> & {
  /** Asks for a stop when an event makes this true. */
  readonly stopWhen?: (event: TrainerEvent) => boolean
}

/** Trains the test task in a folder: 21 training rows (6 steps per epoch, the last of one row), 5 evaluation rows. */
export async function runTask(folder: string, changes: RequestChanges = {}): Promise<Outcome> {
  const { stopWhen, stop = new StopSource(), ...request } = changes
  const events = new TrainerEvents()
  const seen: TrainerEvent[] = []
  events.onAny((event) => {
    seen.push(event)
    if (stopWhen?.(event)) stop.request({ kind: 'request', by: 'test' })
  })
  const result = await train<PairBatch>({
    outputDir: folder,
    identity,
    step: makeStep(),
    data: { train: makePairs(21), eval: makeEvaluation(5) },
    saveAdapter,
    handleSignals: false,
    stop,
    events,
    ...request,
    options: { ...testOptions, ...request.options },
  })
  const warnings = seen.filter((event) => event.type === 'warning').map((event) => event.message)
  return { result, events: seen, warnings }
}

/** What an uninterrupted and an interrupted run must have in common, bit for bit. */
export async function outcomeOf(folder: string, checkpoint: string): Promise<Record<string, string>> {
  const results = join(folder, 'results')
  const files = {
    train: join(results, 'train.jsonl'),
    eval: join(results, 'eval.jsonl'),
    adapter: join(results, checkpoint, 'adapter_model.safetensors'),
    moments: join(results, checkpoint, 'optimizer.safetensors'),
    state: join(results, checkpoint, 'mirastral_state.json'),
    trainerState: join(results, checkpoint, 'trainer_state.json'),
    final: join(folder, 'final_model', 'adapter_model.safetensors'),
  }
  const found: Record<string, string> = {}
  for (const [name, path] of Object.entries(files)) {
    const bytes = await readFile(path)
    found[name] = path.endsWith('safetensors') ? bytes.toString('hex') : bytes.toString('utf8')
  }
  // The length of the speed log depends on the digits of times.
  found.state = (found.state ?? '').replace(/"speed": \d+/, '')
  return found
}

export async function readLines(folder: string, log: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(folder, 'results', log), 'utf8')
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

export async function tensorNames(path: string): Promise<string[]> {
  const file = await SafetensorsFile.open(path)
  await file.close()
  return [...file.tensors.keys()]
}
