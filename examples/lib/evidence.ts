// What a model card is written from: the records of the run, counted and hashed, and nothing else.
import { readFile } from 'node:fs/promises'
import { cpus, platform, release } from 'node:os'
import { join } from 'node:path'
import type { DataReport } from '@mirastral/data'
import type { EvidenceInput, LoraPlan } from '@mirastral/lora'
import { adapterTensors } from '@mirastral/lora'
import type { LoadedModel } from '@mirastral/models'
import type { TrainingOptions } from '@mirastral/trainer'

export interface EvidenceSources {
  readonly out: string
  readonly model: LoadedModel
  readonly plan: LoraPlan
  readonly recipe: TrainingOptions
  readonly report: DataReport
  readonly device: 'cpu' | 'cuda'
}

type JsonLine = Record<string, number | string | null>

async function readLines(path: string): Promise<JsonLine[]> {
  const text = await readFile(path, 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as JsonLine)
}

/** What played a part in the run. */
function settingsOf(recipe: TrainingOptions, kind: DataReport['kind']): EvidenceInput['hyperparameters'] {
  const plays = (name: string): boolean =>
    name.startsWith('dpo') ? kind === 'pairs' : name !== 'initialLossScale' || recipe.precision === 'float16'
  return Object.fromEntries(Object.entries(recipe).filter(([name]) => plays(name)))
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** The evidence of the adapter as it was after `step`: what came later, in a run that goes on, is not its own. */
export async function evidenceOf(s: EvidenceSources, step: number): Promise<EvidenceInput> {
  const read = async (name: string) => {
    const lines = await readLines(join(s.out, 'results', name))
    return lines.filter((line) => Number(line.step ?? 0) <= step)
  }
  const [steps, evaluations, speeds, segments] = await Promise.all(
    ['train.jsonl', 'eval.jsonl', 'speed.jsonl', 'segments.jsonl'].map(read),
  )
  const parameters = s.model.architecture.parameters(s.model.config)
  const used = s.report.files.filter((file) => file.status === 'used')
  const last = speeds.at(-1)
  return {
    baseModel: {
      id: s.model.name,
      revision: s.model.commit,
      modelType: s.model.config.modelType,
      parameters: parameters.reduce((total, { shape }) => total + sizeOf(shape), 0),
    },
    quantization: { type: 'nf4', blockSize: 64, doubleQuant: false },
    adapter: {
      trainableParameters: [...adapterTensors(s.plan).values()].reduce((total, shape) => total + sizeOf(shape), 0),
      adaptedModules: s.plan.layers.length,
    },
    hyperparameters: settingsOf(s.recipe, s.report.kind),
    data: {
      kind: s.report.kind,
      files: used.map(({ sha256, read: records, used: count }) => ({ sha256, records, used: count })),
      trainConversations: s.report.train.examples,
      evalConversations: s.report.eval.examples,
      dropped: { ...s.report.totals.dropped },
      tokens: s.report.train.tokens,
      trainedTokens: s.report.train.trainedTokens,
      maxLength: s.recipe.maxLength,
    },
    results: {
      steps: step,
      epochs: Number(steps.at(-1)?.epoch ?? 0),
      trainLoss: steps.flatMap(({ step, loss }) => (loss === null ? [] : [{ step: Number(step), loss: Number(loss) }])),
      evalLoss: evaluations.map(({ step, evalLoss, evalTokenAccuracy }) => ({
        step: Number(step),
        loss: Number(evalLoss),
        tokenAccuracy: Number(evalTokenAccuracy),
      })),
    },
    performance: {
      seconds: Number(last?.elapsedSeconds ?? 0),
      tokensPerSecond: Number(last?.tokensPerSecond ?? 0),
      secondsPerStep: Number(last?.secondsPerStep ?? 0),
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    },
    environment: {
      hardware: cpus()[0]?.model ?? 'unknown processor',
      backend: s.device === 'cuda' ? 'CUDA' : 'ONNX Runtime',
      precision: s.recipe.precision === 'float32' ? 'float32' : `${s.recipe.precision}, adapters float32`,
      os: `${platform()} ${release()}`,
      node: process.version,
    },
    segments: segmentsOf(segments, step),
  }
}

/** One entry for each start; one that has no end was killed, or is the one that goes on. */
function segmentsOf(lines: readonly JsonLine[], step: number): EvidenceInput['segments'] {
  const found: EvidenceInput['segments'] = []
  for (const [i, line] of lines.entries()) {
    if (line.event !== 'start') continue
    const next = lines.at(i + 1)
    const end = next?.event === 'end' ? next : null
    const killed = next === undefined ? 'goes on' : 'killed'
    found.push({
      firstStep: Number(line.step),
      lastStep: Number(end?.step ?? (next === undefined ? step : next.step)),
      seconds: Number(end?.elapsedSeconds ?? 0),
      endedBy: end === null ? killed : String(end.reason),
    })
  }
  return found.length > 0 ? found : [{ firstStep: 0, lastStep: step, seconds: 0, endedBy: 'finished' }]
}
