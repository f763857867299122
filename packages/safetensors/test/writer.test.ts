import { readFile, readdir } from 'node:fs/promises'
import { expect, test } from 'vitest'
import type { TensorEntry } from '@mirastral/safetensors'
import { SafetensorsFile, SafetensorsWriter, writeFileAtomically, writeSafetensors } from '@mirastral/safetensors'
import { temporaryFolder } from './helpers.js'

const folder = temporaryFolder()
const old: TensorEntry[] = [{ name: 'old', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }]

async function writeOld(): Promise<{ path: string; content: Buffer }> {
  const path = folder.path('file')
  await writeSafetensors(path, old)
  return { path, content: await readFile(path) }
}

async function expectUntouched({ path, content }: { path: string; content: Buffer }): Promise<void> {
  expect((await readFile(path)).equals(content)).toBe(true)
  expect(await readdir(folder.path())).toEqual(['file'])
}

test('tensors are appended in any order and concurrently, and the file appears at commit', async () => {
  const path = folder.path('file')
  const writer = await SafetensorsWriter.create(path, [
    { name: 'u', dtype: 'U8', shape: [4] },
    { name: 'f', dtype: 'F32', shape: [2] },
    { name: 'none', dtype: 'F32', shape: [0] },
  ])
  expect([...writer.tensors.keys()]).toEqual(['f', 'none', 'u'])
  await Promise.all([
    writer.append('u', Uint8Array.of(1)),
    writer.append('u', Uint8Array.of(2, 3, 4)),
    writer.append('f', new Uint8Array(new Float32Array([5, 6]).buffer)),
  ])
  expect(await readdir(folder.path())).not.toContain('file')
  await writer.commit()
  expect(await readdir(folder.path())).toEqual(['file'])
  const file = await SafetensorsFile.open(path)
  expect(await file.read('u')).toEqual(Uint8Array.of(1, 2, 3, 4))
  expect(new Float32Array((await file.read('f')).buffer)).toEqual(Float32Array.of(5, 6))
  await file.close()
})

test('a failure while data is made leaves the earlier file and nothing else', async () => {
  const before = await writeOld()
  const broken: TensorEntry = {
    name: 'w',
    dtype: 'U8',
    shape: [10],
    data: function* () {
      yield new Uint8Array(5)
      throw new Error('the source failed')
    },
  }
  await expect(writeSafetensors(before.path, [broken])).rejects.toThrow('the source failed')
  await expectUntouched(before)
})

test.each([
  [9, 'every tensor must be complete, got "w" (9 of 10 bytes)'],
  [11, 'tensor "w" must have 10 bytes, got at least 11'],
])('%i bytes for a tensor of ten leave the earlier file and nothing else', async (length, message) => {
  const before = await writeOld()
  const data = new Uint8Array(length)
  await expect(writeSafetensors(before.path, [{ name: 'w', dtype: 'U8', shape: [10], data }])).rejects.toThrow(message)
  await expectUntouched(before)
})

test('an aborted writer leaves nothing, and may be aborted again', async () => {
  const writer = await SafetensorsWriter.create(folder.path('file'), old)
  await expect(writer.append('other', new Uint8Array(1))).rejects.toMatchObject({ kind: 'unknown-tensor' })
  await writer.abort()
  await writer.abort()
  expect(await readdir(folder.path())).toEqual([])
})

const one = Uint8Array.of(1)
test.each<[string, TensorEntry[], Record<string, string>, string]>([
  ['a name given twice', [...old, ...old], {}, '"old" is given twice'],
  [
    'the reserved name',
    [{ name: '__metadata__', dtype: 'U8', shape: [1], data: one }],
    {},
    '"__metadata__" is reserved',
  ],
  ['a lone surrogate', [{ name: '\ud800', dtype: 'U8', shape: [1], data: one }], {}, 'is not valid Unicode'],
  ['a lone surrogate in metadata', old, { k: '\udfff' }, 'metadata "k" is not valid Unicode'],
  ['half a byte', [{ name: 'w', dtype: 'F4', shape: [3], data: one }], {}, '"w" has the impossible shape F4[3]'],
  ['a negative size', [{ name: 'w', dtype: 'U8', shape: [-1], data: one }], {}, '"w" has the impossible shape U8[-1]'],
  [
    'elements of another size',
    [{ name: 'w', dtype: 'F32', shape: [1], data: Uint16Array.of(1, 2) }],
    {},
    'typed array of 32-bit elements, got Uint16Array',
  ],
])('%s is refused before anything is written', async (_what, entries, metadata, message) => {
  await expect(writeSafetensors(folder.path('file'), entries, { metadata })).rejects.toMatchObject({
    kind: 'entries',
    exitCode: 2,
    message: expect.stringContaining(message) as string,
  })
  expect(await readdir(folder.path())).toEqual([])
})

test('all wrong tensors are named in one error', async () => {
  const entries: TensorEntry[] = [...old, ...old, { name: 'w', dtype: 'U8', shape: [1.5], data: one }]
  await expect(writeSafetensors(folder.path('file'), entries)).rejects.toThrow(
    /"old" is given twice; "w" has the impossible shape/,
  )
})

test('memory shared between threads can be written', async () => {
  const data = new Uint16Array(new SharedArrayBuffer(4))
  data.set([1, 2])
  await writeSafetensors(folder.path('file'), [{ name: 'w', dtype: 'F16', shape: [2], data }])
  const file = await SafetensorsFile.open(folder.path('file'))
  expect(await file.read('w')).toEqual(Uint8Array.of(1, 0, 2, 0))
  await file.close()
})

test('a text file is replaced whole, and a missing folder is an access error', async () => {
  await writeFileAtomically(folder.path('text'), 'one')
  await writeFileAtomically(folder.path('text'), 'two')
  expect(await readFile(folder.path('text'), 'utf8')).toBe('two')
  expect(await readdir(folder.path())).toEqual(['text'])
  await expect(writeFileAtomically(folder.path('nowhere/text'), 'x')).rejects.toMatchObject({ kind: 'access' })
})
