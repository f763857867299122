import { join } from 'node:path'
import { f32, grad, Graph, i32, linear, linearCrossEntropy, ortBackend, reshape, sum } from '@mirastral/engine'
import type { Backend, Executable, Session } from '@mirastral/engine'
import { adapterName, loadAdapter, modulesOfModel, parseLoraConfig, subtractedName, withLora } from '@mirastral/lora'
import type { Adapter, AdapterTensor, AdapterTensors, LoraPlan } from '@mirastral/lora'
import {
  architectureOf,
  bindConstants,
  checkpointWeights,
  forwardContext,
  openCheckpoint,
  outputEmbedding,
} from '@mirastral/models'
import type { Checkpoint, Weights } from '@mirastral/models'
import { SafetensorsFile } from '@mirastral/safetensors'
import { fixtures } from './fixtures.js'

const BATCH = 2
const LENGTH = 14
const ROWS = BATCH * LENGTH

/** A micro-batch as the engine takes it, from ids, labels and mask of Transformers. */
export interface MicroBatch {
  readonly inputs: Record<'ids' | 'positions' | 'segments' | 'targets', Int32Array>
  readonly tokens: number
  readonly mask: Int32Array
}

async function readAll(
  path: string,
): Promise<Map<string, { shape: readonly number[]; bytes: Uint8Array<ArrayBuffer>; dtype: string }>> {
  const file = await SafetensorsFile.open(path)
  const result = new Map<string, { shape: readonly number[]; bytes: Uint8Array<ArrayBuffer>; dtype: string }>()
  for (const [name, { shape, dtype }] of file.tensors) result.set(name, { shape, dtype, bytes: await file.read(name) })
  await file.close()
  return result
}

/** All micro-batches of a golden model, with targets shifted by one. */
export async function readBatches(model: string): Promise<MicroBatch[]> {
  const tensors = await readAll(join(fixtures, model, 'batches.safetensors'))
  const part = (name: string, n: number): Int32Array => {
    const bytes = tensors.get(name)?.bytes
    if (bytes === undefined) throw new Error(`no ${name}`)
    return new Int32Array(bytes.buffer).slice(n * ROWS, (n + 1) * ROWS)
  }
  return Array.from({ length: 20 }, (_, n) => {
    const labels = part('labels', n)
    const targets = labels.map((_label, i) => ((i + 1) % LENGTH === 0 ? -100 : labels[i + 1]))
    const mask = part('mask', n)
    const inputs = { ids: part('ids', n), positions: mask.map((_m, i) => i % LENGTH), segments: mask, targets }
    return { inputs, tokens: targets.filter((t) => t !== -100).length, mask }
  })
}

/** What `golden.safetensors` of a case holds. */
export interface TrainingGolden {
  readonly loss: number
  readonly logits: Float32Array
  readonly losses: Float64Array
  readonly gradNorms: Float64Array
  readonly learningRates: Float64Array
  /** Tensors under `grad.`, `final.` or `initial.`. */
  readonly group: (prefix: string) => Map<string, AdapterTensor>
}

export async function readGolden(model: string, name: string): Promise<TrainingGolden> {
  const tensors = await readAll(join(fixtures, model, name, 'golden.safetensors'))
  const bytes = (key: string): ArrayBuffer => {
    const found = tensors.get(key)
    if (found === undefined) throw new Error(`no ${key}`)
    return found.bytes.buffer
  }
  return {
    loss: new Float32Array(bytes('loss'))[0],
    logits: new Float32Array(bytes('logits')),
    losses: new Float64Array(bytes('losses')),
    gradNorms: new Float64Array(bytes('grad_norms')),
    learningRates: new Float64Array(bytes('learning_rates')),
    group: (prefix) =>
      new Map(
        [...tensors]
          .filter(([key]) => key.startsWith(`${prefix}.`))
          .map(([key, t]) => [
            key.slice(prefix.length + 1),
            { shape: t.shape, data: new Float32Array(t.bytes.buffer) },
          ]),
      ),
  }
}

/** A tiny model with an adapter, compiled: gradients of the summed loss, and logits. */
export interface TinyModel {
  readonly adapter: Adapter
  gradients(batch: MicroBatch): Promise<{ lossSum: number; gradients: Map<string, Float32Array> }>
  logits(batch: MicroBatch): Promise<Float32Array>
  bind(key: string, data: Float32Array): Promise<void>
  dispose(): Promise<void>
}

export interface TinyOptions {
  readonly backend?: Backend
  readonly quantization?: 'nf4' | 'none'
  /** For PiSSA: the initialisation's name and what it took off the base. */
  readonly subtracted?: { readonly init: 'pissa'; readonly tensors: AdapterTensors }
}

export async function openTinyModel(model: string, name: string, options: TinyOptions = {}): Promise<TinyModel> {
  const checkpoint = await openCheckpoint(join(fixtures, model))
  const weights = checkpointWeights(checkpoint, { quantization: options.quantization ?? 'none' })
  const modules = modulesOfModel(checkpoint.parameters)
  const { adapter } = await loadAdapter(join(fixtures, model, name), modules)
  const init = options.subtracted?.init ?? true
  const plan = { ...adapter.plan, config: parseLoraConfig({ ...adapter.plan.config, initLoraWeights: init }) }
  const backend = options.backend ?? ortBackend({ threads: 1, worker: false })
  const session = await backend.createSession()
  for (const [key, { shape, data }] of adapter.tensors)
    await session.bind(adapterName(key), { type: f32(...shape), data })
  for (const [key, { shape, data }] of options.subtracted?.tensors ?? []) {
    await session.bind(subtractedName(key), { type: f32(...shape), data })
  }
  const executable = await compile(session, checkpoint, weights, plan)
  const run = async (batch: MicroBatch): Promise<Record<string, Float32Array>> =>
    (await executable.run(batch.inputs)) as Record<string, Float32Array>
  return {
    adapter,
    async gradients(batch) {
      const outputs = await run(batch)
      const gradients = new Map([...adapter.tensors.keys()].map((key) => [key, outputs[`grad/${key}`]]))
      return { lossSum: outputs.loss[0], gradients }
    },
    logits: async (batch) => (await run(batch)).logits,
    bind: (key, data) => {
      const shape = adapter.tensors.get(key)?.shape ?? []
      return session.bind(adapterName(key), { type: f32(...shape), data })
    },
    async dispose() {
      await session.dispose()
      await weights.close()
    },
  }
}

async function compile(
  session: Session,
  checkpoint: Checkpoint,
  weights: Weights,
  plan: LoraPlan,
): Promise<Executable> {
  const { config } = checkpoint
  const g = new Graph('tiny')
  const ctx = withLora(forwardContext(g, weights.types), plan)
  const [ids, positions, segments] = ['ids', 'positions', 'segments'].map((n) => g.input(n, i32(BATCH, LENGTH)))
  const hidden = architectureOf(config).forward(ctx, config, { ids, positions, segments, maxPositions: LENGTH })
  const rows = reshape(hidden, [ROWS, config.hiddenSize])
  const head = ctx.parameter(outputEmbedding(config))
  const loss = sum(linearCrossEntropy(rows, head, g.input('targets', i32(ROWS))).loss)
  g.output('loss', loss)
  g.output('logits', linear(rows, head))
  const wrt = [...ctx.trainable]
  grad(
    loss,
    wrt.map(([, value]) => value),
  ).forEach((gradient, i) => {
    g.output(`grad/${wrt[i][0]}`, gradient)
  })
  const program = g.build()
  await bindConstants(session, program, { config, weights })
  return session.compile(program)
}

/** AdamW on the host, in PyTorch's arrangement (torch/optim/adamw.py), with float32 storage. */
export class HostAdamw {
  private readonly m = new Map<string, Float32Array>()
  private readonly v = new Map<string, Float32Array>()
  private step = 0

  constructor(private readonly weightDecay: number) {}

  update(
    parameters: ReadonlyMap<string, Float32Array>,
    gradients: ReadonlyMap<string, Float32Array>,
    rate: number,
  ): void {
    this.step += 1
    const [bias1, bias2] = [1 - 0.9 ** this.step, 1 - 0.999 ** this.step]
    for (const [key, p] of parameters) {
      const g = gradients.get(key) ?? new Float32Array(p.length)
      const m = this.m.get(key) ?? new Float32Array(p.length)
      const v = this.v.get(key) ?? new Float32Array(p.length)
      this.m.set(key, m)
      this.v.set(key, v)
      for (let i = 0; i < p.length; i++) {
        m[i] = 0.9 * m[i] + 0.1 * g[i]
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
        const denominator = Math.sqrt(v[i]) / Math.sqrt(bias2) + 1e-8
        p[i] = p[i] * (1 - rate * this.weightDecay) - ((rate / bias1) * m[i]) / denominator
      }
    }
  }
}
