import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { BackendUnavailableError } from '../../errors.js'
import { cudaBackend, probeCuda } from './backend.js'
import { kernelFolder } from './compiler.js'
import { loadLibrary } from './ffi.js'
import { candidates, fileNames, libraryFolders } from './libraries.js'

const nowhere = { env: {}, home: '/nonexistent', platform: 'linux' } as const

test('library names cover CUDA 12 and 13, the newer first', () => {
  expect(fileNames('nvrtc', 'linux')).toEqual(['libnvrtc.so.13', 'libnvrtc.so.12', 'libnvrtc.so'])
  expect(fileNames('cuda', 'win32')).toEqual(['nvcuda.dll'])
})

test('the nvidia packages of an environment on the PATH are found', () => {
  const root = mkdtempSync(join(tmpdir(), 'cuda-'))
  const lib = join(root, 'lib', 'python3.12', 'site-packages', 'nvidia', 'cu13', 'lib')
  mkdirSync(lib, { recursive: true })
  mkdirSync(join(root, 'bin'))
  writeFileSync(join(root, 'bin', 'python3'), '')
  writeFileSync(join(lib, 'libnvrtc.so.13'), '')
  const machine = { ...nowhere, env: { PATH: join(root, 'bin') } }
  expect(libraryFolders(machine)).toContain(lib)
  expect(candidates('nvrtc', machine)).toContain(join(lib, 'libnvrtc.so.13'))
})

test('the folder named in MIRASTRAL_CUDA_LIBS comes first', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cuda-'))
  writeFileSync(join(folder, 'libnvrtc.so.12'), '')
  const machine = { ...nowhere, env: { MIRASTRAL_CUDA_LIBS: folder } }
  expect(candidates('nvrtc', machine)[0]).toBe(join(folder, 'libnvrtc.so.12'))
})

test('a file that is no library gives one line that says what to install', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cuda-'))
  for (const name of fileNames('cublasLt', 'linux')) writeFileSync(join(folder, name), 'not a library')
  const machine = { ...nowhere, env: { MIRASTRAL_CUDA_LIBS: folder } }
  const error = await loadLibrary('cublasLt', machine).catch((e: unknown) => e)
  // Where the toolkit is installed system-wide the loader finds it by its name.
  if (!(error instanceof Error)) return
  expect(error).toBeInstanceOf(BackendUnavailableError)
  expect(error.message).toMatch(/^cuda: no cublasLt library: install the CUDA toolkit .* MIRASTRAL_CUDA_LIBS/)
  expect(error.message).not.toContain('\n')
})

test('probing never throws, and where it says no, a session refuses with the same line', async () => {
  const probe = await probeCuda()
  if (probe.available) {
    expect(probe.device.architecture).toBeGreaterThanOrEqual(80)
    return
  }
  expect(probe.reason).toMatch(/^cuda: .+/)
  expect(probe.reason).not.toContain('\n')
  await expect(cudaBackend().createSession()).rejects.toThrow(probe.reason)
})

test('the kernel sources are found from the sources and from the built package', () => {
  const here = kernelFolder()
  const built = kernelFolder(new URL('../../../dist/chunk.js', import.meta.url).href)
  expect(built).toBe(here)
})
