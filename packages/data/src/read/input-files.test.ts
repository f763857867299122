import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../test/fixtures.js'
import { DataError } from '../errors.js'
import { listInputFiles } from './input-files.js'

const folder = temporaryFolder()

function write(...names: string[]): void {
  for (const name of names) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), '{}')
  }
}

async function names(...inputs: string[]): Promise<string[]> {
  const { files } = await listInputFiles(inputs.map((input) => join(folder, input)))
  return files.map(({ path }) => relative(folder, path))
}

describe('listInputFiles', () => {
  it('walks folders in an order in which numbers count as numbers', async () => {
    write('order/worker10/a.json', 'order/worker2/b.jsonl', 'order/worker2/a.csv', 'order/worker1/z.ndjson.gz')
    expect(await names('order')).toEqual([
      'order/worker1/z.ndjson.gz',
      'order/worker2/a.csv',
      'order/worker2/b.jsonl',
      'order/worker10/a.json',
    ])
    expect(await names('order/worker10', 'order/worker1')).toEqual([
      'order/worker10/a.json',
      'order/worker1/z.ndjson.gz',
    ])
  })

  it('counts files that are no data, leaves hidden ones out and walks a folder that is named like a file', async () => {
    write('odd/readme.md', 'odd/.hidden.json', 'odd/.git/config.json', 'odd/x.json/inside.json')
    const { files, ignored } = await listInputFiles([join(folder, 'odd')])
    expect(files.map(({ path }) => relative(folder, path))).toEqual(['odd/x.json/inside.json'])
    expect(ignored).toBe(1)
  })

  it('reads every real file once, whatever links lead to it, and does not run in circles', async () => {
    write('loop/a/one.json')
    symlinkSync(join(folder, 'loop'), join(folder, 'loop/a/back'))
    symlinkSync(join(folder, 'loop/a/one.json'), join(folder, 'loop/again.json'))
    symlinkSync(join(folder, 'nowhere'), join(folder, 'loop/broken.json'))
    const { files, unreadable } = await listInputFiles([join(folder, 'loop')])
    expect(files).toHaveLength(1)
    expect(unreadable).toEqual([{ path: join(folder, 'loop/broken.json'), problem: 'unreadable', detail: 'ENOENT' }])
  })

  it('reports a folder that may not be opened', async () => {
    write('closed/inner/a.json', 'closed/b.json')
    chmodSync(join(folder, 'closed/inner'), 0)
    const { files, unreadable } = await listInputFiles([join(folder, 'closed')])
    chmodSync(join(folder, 'closed/inner'), 0o700)
    // The superuser may open everything.
    const isRoot = process.getuid?.() === 0
    expect(files).toHaveLength(isRoot ? 2 : 1)
    expect(unreadable).toHaveLength(isRoot ? 0 : 1)
  })

  it('leaves out what is excluded', async () => {
    write('ex/a.json', 'ex/processed_files.jsonl')
    const { files } = await listInputFiles([join(folder, 'ex')], [join(folder, 'ex/processed_files.jsonl')])
    expect(files.map(({ path }) => relative(folder, path))).toEqual(['ex/a.json'])
  })

  it('refuses an input that does not exist, or a file of another kind', async () => {
    write('single.txt')
    await expect(listInputFiles([join(folder, 'missing')])).rejects.toThrow(DataError)
    await expect(listInputFiles([join(folder, 'missing')])).rejects.toThrow(/cannot be opened \(ENOENT\)/)
    await expect(listInputFiles([join(folder, 'single.txt')])).rejects.toThrow(/must be a \.json/)
  })
})
