#!/usr/bin/env node
import { serveCommand } from './cli/serve-command.js'
import type { CommandIo } from './cli/serve-command.js'
import { InferError } from './errors.js'

const usage = `usage: mirastral serve --model <folder or owner/name> [options]
       mirastral serve --help
`

const io: CommandIo = {
  env: process.env,
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  onStop: (listener) => {
    process.on('SIGINT', listener).on('SIGTERM', listener)
    return () => process.off('SIGINT', listener).off('SIGTERM', listener)
  },
}

async function run([command, ...rest]: readonly string[]): Promise<number> {
  if (command === 'serve') return serveCommand(rest, io)
  if (command === '--help' || command === '-h') {
    io.out(usage)
    return 0
  }
  throw new InferError(
    'MIRASTRAL_INFER_OPTION',
    `mirastral: there is no command ${command ?? '(none)'}\n${usage.trimEnd()}`,
  )
}

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  const known = error instanceof Error && 'exitCode' in error && typeof error.exitCode === 'number'
  const message = error instanceof Error ? error.message : String(error)
  io.err(`${known ? 'error' : 'unexpected error'}: ${message}\n`)
  process.exitCode = known ? Number(error.exitCode) : 1
}
