// Speed of the 4-bit codec, in MB/s of full-precision weights, beside bitsandbytes on the same CPU and weights.
//
//   node --no-warnings --loader ts-node/esm quant.ts [--elements 16777216]
//
// MIRASTRAL_PYTHON names a Python with bitsandbytes (default python3); without one the peer is left out.
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { FloatSource, FourBitTensor } from '@mirastral/quant'
import {
  QuantPool,
  codebook,
  dequantize4bit,
  dequantize4bitToBits,
  nestAbsmax,
  quantize4bit,
  quantizeCheckpoint,
} from '@mirastral/quant'
import type { TensorEntry } from '@mirastral/safetensors'
import {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  writeSafetensors,
  writeShardedSafetensors,
} from '@mirastral/safetensors'

interface PeerRate {
  dtype: string
  threads: number
  quantize: number
  dequantize: number
}
interface Peer {
  version: string
  rates: PeerRate[]
}

const { values: args } = parseArgs({ options: { elements: { type: 'string', default: String(2 ** 24) } } })
const elements = Number(args.elements)
const threads = availableParallelism()

const f32 = gaussians(elements)
const bf16 = f32ToBf16(f32)
const f16 = f32ToF16(f32)
const sources: { dtype: string; bytes: number; source: FloatSource; exact: Float32Array }[] = [
  { dtype: 'bf16', bytes: 2, source: { dtype: 'bf16', data: bf16 }, exact: bf16ToF32(bf16) },
  { dtype: 'f16', bytes: 2, source: { dtype: 'f16', data: f16 }, exact: f16ToF32(f16) },
  { dtype: 'f32', bytes: 4, source: f32, exact: f32 },
]

console.log(`${elements} Gaussian weights in blocks of 64, ${threads} cores, Node ${process.version}`)
const folder = await mkdtemp(join(tmpdir(), 'bench-quant-'))
try {
  const quantized = new Map<string, FourBitTensor>()
  for (const { dtype, source, exact } of sources) {
    const tensor = quantize4bit(source, 'nf4')
    checkByDefinition(dtype, exact, tensor)
    quantized.set(dtype, tensor)
  }
  console.log('checked: NF4 codes and values equal their definition for every dtype')
  const peer = await runPeer(folder, quantized)
  const rows = [...oneCore(quantized), ...(await allCores())]
  printTable(rows, peer)
  await benchCheckpoint(folder)
} finally {
  await rm(folder, { recursive: true })
}

interface Row {
  work: 'quantize' | 'dequantize'
  type: string
  dtype: string
  threads: number
  rate: number
}

function oneCore(quantized: ReadonlyMap<string, FourBitTensor>): Row[] {
  const rows: Row[] = []
  for (const { dtype, bytes, source } of sources) {
    for (const type of ['nf4', 'fp4'] as const) {
      const rate = (bytes * elements) / 1e6 / best(() => quantize4bit(source, type))
      rows.push({ work: 'quantize', type, dtype, threads: 1, rate })
    }
  }
  const values = new Float32Array(elements)
  const bits = new Uint16Array(elements)
  for (const { dtype, bytes } of sources) {
    const tensor = quantized.get(dtype)
    if (!tensor) continue
    const half = dtype === 'f16' ? 'float16' : 'bfloat16'
    const seconds = best(() =>
      dtype === 'f32' ? dequantize4bit(tensor, {}, values) : dequantize4bitToBits(tensor, half, {}, bits),
    )
    rows.push({ work: 'dequantize', type: 'nf4', dtype, threads: 1, rate: (bytes * elements) / 1e6 / seconds })
  }
  return rows
}

async function allCores(): Promise<Row[]> {
  const rows: Row[] = []
  const pool = QuantPool.start({ threads })
  for (const { dtype, bytes, source } of sources) {
    await pool.quantize(source, 'nf4')
    let seconds = Infinity
    for (let run = 0; run < 8; run++) {
      const start = performance.now()
      await pool.quantize(source, 'nf4')
      seconds = Math.min(seconds, (performance.now() - start) / 1000)
    }
    rows.push({ work: 'quantize', type: 'nf4', dtype, threads, rate: (bytes * elements) / 1e6 / seconds })
  }
  await pool.close()
  return rows
}

/** Shortest of many runs, in seconds. */
function best(work: () => unknown): number {
  let shortest = Infinity
  for (let run = 0, total = 0; run < 5 || total < 1; run++) {
    const start = performance.now()
    work()
    const seconds = (performance.now() - start) / 1000
    shortest = Math.min(shortest, seconds)
    total += seconds
  }
  return shortest
}

function printTable(rows: readonly Row[], peer: Peer | undefined): void {
  console.log(
    `\n| | type | weights | threads | MB/s | ${peer?.version ?? 'no peer'} | ratio |\n|---|---|---|---:|---:|---:|---:|`,
  )
  for (const { work, type, dtype, threads: count, rate } of rows) {
    const other = type === 'nf4' ? peer?.rates.find((r) => r.dtype === dtype && r.threads === count)?.[work] : undefined
    const cells = [
      work,
      type,
      dtype,
      count,
      rate.toFixed(0),
      other?.toFixed(0) ?? '',
      other ? (rate / other).toFixed(1) : '',
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
}

/** Quantizes a folder of bfloat16 matrices of 4096 columns, with and without double quantization. */
async function benchCheckpoint(parent: string): Promise<void> {
  const model = join(parent, 'model')
  const matrix = new Uint8Array(bf16.buffer, 0, Math.min(bf16.byteLength, 2 ** 25))
  const entries = Array.from({ length: 16 }, (_, i): TensorEntry => {
    return {
      name: `model.layers.${i}.mlp.up_proj.weight`,
      dtype: 'BF16',
      shape: [matrix.length / 8192, 4096],
      data: matrix,
    }
  })
  await mkdir(model)
  await writeShardedSafetensors(model, entries, { maxShardBytes: 2e8 })
  await writeFile(join(model, 'config.json'), '{}')
  console.log('')
  for (const doubleQuant of [false, true]) {
    const start = performance.now()
    const { sourceBytes } = await quantizeCheckpoint(model, join(parent, 'out'), { doubleQuant })
    const seconds = (performance.now() - start) / 1000
    const what = `quantizeCheckpoint${doubleQuant ? ' with double quantization' : ''}`
    console.log(
      `${what}: ${(sourceBytes / 1e6).toFixed(0)} MB of bf16 in ${seconds.toFixed(2)} s, ${(sourceBytes / 1e6 / seconds).toFixed(0)} MB/s, files and flush included`,
    )
  }
  const absmax = Float32Array.from({ length: 2 ** 20 }, (_, i) => 1 + (i % 1000) / 1000)
  console.log(
    `double quantization of ${absmax.length} scales: ${(1000 * best(() => nestAbsmax(absmax))).toFixed(1)} ms`,
  )
  console.log(
    `peak memory of this process: ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB, of which the weights above ${((elements * 20) / 2 ** 20).toFixed(0)} MiB`,
  )
}

/** The rules of the format, element by element: what both implementations must equal. */
function checkByDefinition(dtype: string, weights: Float32Array, tensor: FourBitTensor): void {
  const { values, thresholds } = codebook('nf4')
  const restored = dequantize4bit(tensor)
  for (let start = 0; start < weights.length; start += 64) {
    const block = weights.subarray(start, start + 64)
    const absmax = block.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
    const scale = Math.fround(1 / absmax)
    block.forEach((x, i) => {
      const code = thresholds.filter((t) => Math.fround(x * scale) > t).length
      if (restored[start + i] !== Math.fround(values[code] * absmax)) {
        throw new Error(`${dtype}: element ${start + i} is not what its definition says`)
      }
    })
  }
}

async function runPeer(parent: string, quantized: ReadonlyMap<string, FourBitTensor>): Promise<Peer | undefined> {
  const path = join(parent, 'peer.safetensors')
  const entries = sources.flatMap(({ dtype, source }): TensorEntry[] => {
    const tensor = quantized.get(dtype)
    if (!tensor) return []
    const data = source instanceof Float32Array ? source : source.data
    const name = { bf16: 'BF16', f16: 'F16', f32: 'F32' }[dtype] as 'BF16' | 'F16' | 'F32'
    return [
      { name: `${dtype}/x`, dtype: name, shape: [elements], data },
      { name: `${dtype}/codes`, dtype: 'U8', shape: [tensor.codes.length], data: tensor.codes },
      { name: `${dtype}/absmax`, dtype: 'F32', shape: [tensor.absmax.length], data: tensor.absmax },
    ]
  })
  await writeSafetensors(path, entries)
  const python = process.env.MIRASTRAL_PYTHON ?? 'python3'
  const script = fileURLToPath(new URL('peers/quant_peer.py', import.meta.url))
  const { status, stdout, stderr } = spawnSync(python, [script, path, String(threads)], { encoding: 'utf8' })
  await rm(path)
  if (status === 0) {
    console.log('checked: the codes and scales of bitsandbytes are the same, for every dtype')
    return JSON.parse(stdout) as Peer
  }
  const reason = stderr?.trim().split('\n').at(-1) ?? 'it could not be started'
  if (reason.includes('differ from ours')) throw new Error(reason)
  console.log(`peer left out: ${python} has no bitsandbytes to run (${reason}); set MIRASTRAL_PYTHON`)
  return undefined
}

/** Independent Gaussian weights of standard deviation 0.02: Box-Muller of a linear congruential generator. */
function gaussians(count: number): Float32Array {
  let state = 1
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const result = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    result[i] = 0.02 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  }
  return result
}
