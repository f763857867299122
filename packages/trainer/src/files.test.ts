import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { publishFolder, removeFolder, removeLeftovers } from './files.js'

const newFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'mirastral-files-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const write = async (parent: string, name: string, text: string): Promise<string> => {
  await mkdir(join(parent, name))
  await writeFile(join(parent, name, 'file'), text)
  return join(parent, name)
}

const read = (parent: string, name: string): Promise<string> => readFile(join(parent, name, 'file'), 'utf8')

describe('a folder', () => {
  it('is published whole, in the place of an older one', async () => {
    const parent = await newFolder()
    await write(parent, 'a', 'old')
    await publishFolder(await write(parent, '.tmp-a', 'new'), join(parent, 'a'))
    expect(await readdir(parent)).toEqual(['a'])
    expect(await read(parent, 'a')).toBe('new')
  })

  it('that was put aside by a killed process gets its name back', async () => {
    const parent = await newFolder()
    await write(parent, '.replaced-a', 'old')
    await write(parent, '.tmp-a', 'new')
    await removeLeftovers(parent)
    expect(await readdir(parent)).toEqual(['a'])
    expect(await read(parent, 'a')).toBe('old')
  })

  it('that was replaced by a killed process is removed, as is what was half-removed', async () => {
    const parent = await newFolder()
    await write(parent, '.replaced-a', 'old')
    await write(parent, 'a', 'new')
    await write(parent, '.removed-b', 'half')
    await removeLeftovers(parent)
    expect(await readdir(parent)).toEqual(['a'])
    expect(await read(parent, 'a')).toBe('new')
  })

  it('can be removed, also if it is not there', async () => {
    const parent = await newFolder()
    const folder = await write(parent, 'a', 'old')
    await removeFolder(folder)
    await removeFolder(folder)
    expect(await readdir(parent)).toEqual([])
  })
})
