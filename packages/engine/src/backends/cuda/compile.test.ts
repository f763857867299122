import { describe, expect, test } from 'vitest'
import { allSamples } from '../../testing/index.js'
import { Compiler, sourceKey, type KernelSource } from './compiler.js'
import { loadLibrary, type Nvrtc } from './ffi.js'
import { lowerProgram } from './lower.js'

const nvrtc: Nvrtc | string = await loadLibrary('nvrtc').catch((error: unknown) =>
  error instanceof Error ? error.message : 'no nvrtc',
)

/** Every kernel file that the samples of the ops need, once, and those that need larger shapes. */
function sources(): KernelSource[] {
  const found = new Map<string, KernelSource>()
  for (const { forward } of allSamples()) {
    for (const { command } of lowerProgram(forward, { nf4: 'packed', multiprocessors: 100, architecture: 80 }).steps) {
      if (command.kind === 'launch' && !found.has(command.source.file)) found.set(command.source.file, command.source)
    }
  }
  return [
    ...found.values(),
    { file: 'matmul', defines: { T: 'bf16', TOUT: 'float' } },
    { file: 'quant', defines: { T: 'bf16' } },
    { file: 'nf4-matvec', defines: { T: 'bf16' } },
    { file: 'matvec', defines: { T: 'bf16', ROWS: 8 } },
    { file: 'flash-attention', defines: { T: 'bf16', HEAD_DIM: 96, WARPS: 4 } },
  ]
}

if (typeof nvrtc === 'string') {
  test('without NVRTC the kernels are not compiled, and the reason is one line', () => {
    expect(nvrtc).toMatch(/^cuda: no nvrtc library: .*MIRASTRAL_CUDA_LIBS/)
  })
} else {
  describe('NVRTC compiles', async () => {
    const { default: koffi } = await import('koffi')
    const compilerFor = (architecture: number): Compiler =>
      new Compiler({ nvrtc, addressOf: (buffer) => koffi.address(buffer) }, architecture, null)

    test.each(sources().map((source) => [sourceKey(source), source] as const))('%s for sm_80', async (_, source) => {
      expect((await compilerFor(80).compile(source)).length).toBeGreaterThan(1000)
    })

    test.each([
      { T: 'bf16', HEAD_DIM: 128 },
      { T: 'f16', HEAD_DIM: 64 },
    ])('the warp-group kernels for sm_90a, %o', async (defines) => {
      expect((await compilerFor(90).compile({ file: 'wgmma-attention', defines })).length).toBeGreaterThan(1000)
    })
  })
}
