#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { DataError, printable } from './errors.js'
import { importPickle } from './ledger/import-pickle.js'
import { Ledger } from './ledger/ledger.js'
import { ledgerStatus } from './ledger/status.js'
import type { FileStanding } from './ledger/status.js'

const USAGE = `usage: mirastral-ledger status <processed_files.jsonl> [folder or file ...]
       mirastral-ledger import <processed_files.jsonl> <processed_files.pkl> [--base <folder>]`

/** The words of one command, its result on the lines to print. */
async function run(args: readonly string[]): Promise<string[]> {
  const { values, positionals } = parseCommand(args)
  const [command, ledger, ...rest] = positionals
  if (values.help === true) return [USAGE]
  if (command === 'status' && ledger !== undefined) return await status(ledger, rest)
  if (command === 'import' && ledger !== undefined && rest.length === 1) {
    return await importInto(ledger, rest[0], values.base)
  }
  throw new DataError('MIRASTRAL_DATA_OPTION', 'mirastral-ledger: a command and its files must be given')
}

function parseCommand(args: readonly string[]): { values: { base?: string; help?: boolean }; positionals: string[] } {
  try {
    const options = { base: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'wrong arguments'
    throw new DataError('MIRASTRAL_DATA_OPTION', `mirastral-ledger: ${reason}`)
  }
}

async function status(path: string, inputs: readonly string[]): Promise<string[]> {
  const ledger = await Ledger.read(path)
  const lines = [`${path}: ${ledger.entries.length} entries`]
  if (ledger.found.tornBytes > 0) lines.push(`${ledger.found.tornBytes} bytes of an unfinished line at the end`)
  if (ledger.found.badLines > 0) lines.push(`${ledger.found.badLines} lines are no entries and are ignored`)
  if (inputs.length === 0) {
    return [
      ...lines,
      ...ledger.entries.map(({ status: state, path: file, time }) => `${state}\t${time}\t${printable(file)}`),
    ]
  }
  const standings = await ledgerStatus(ledger, inputs)
  return [...lines, ...standings.map(lineOf), summaryOf(standings)]
}

function lineOf({ standing, path, processedAs, problem }: FileStanding): string {
  const note = processedAs === undefined ? (problem ?? '') : `as ${processedAs}`
  return `${standing}\t${printable(path)}${note === '' ? '' : `\t${note}`}`
}

function summaryOf(standings: readonly FileStanding[]): string {
  const kinds = ['processed', 'new', 'changed', 'failed'] as const
  return kinds.map((kind) => `${standings.filter(({ standing }) => standing === kind).length} ${kind}`).join(', ')
}

async function importInto(path: string, pickle: string, base: string | undefined): Promise<string[]> {
  const ledger = await Ledger.open(path)
  try {
    const { paths, imported, missing, known } = await importPickle(ledger, pickle, base)
    return [`${paths} paths: ${imported} imported (${missing} of them no longer exist), ${known} known already`]
  } finally {
    await ledger.close()
  }
}

try {
  for (const line of await run(process.argv.slice(2))) process.stdout.write(`${line}\n`)
} catch (error) {
  const isKnown = error instanceof DataError
  process.stderr.write(`${isKnown ? error.message : 'mirastral-ledger: internal: an unforeseen error'}\n`)
  if (isKnown && error.code === 'MIRASTRAL_DATA_OPTION') process.stderr.write(`${USAGE}\n`)
  if (process.env.DEBUG?.includes('mirastral') === true && error instanceof Error)
    process.stderr.write(`${error.stack}\n`)
  process.exitCode = isKnown ? error.exitCode : 1
}
