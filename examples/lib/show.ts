// What the example prints about its data and its answers.
import { relative } from 'node:path'
import type { DataReport } from '@mirastral/data'
import type { TextGenerator } from '@mirastral/infer'

export const say = (line = ''): void => void process.stdout.write(`${line}\n`)

/** A path as a person here would write it. */
export function nameOf(path: string): string {
  const near = relative(process.cwd(), path)
  return near === '' || near.startsWith('..') ? path : near
}

/** One line per file that was read or failed, and the totals. */
export function showData({ kind, files, train, eval: held, totals }: DataReport): void {
  const what = kind === 'pairs' ? 'pairs' : 'rows'
  for (const file of files) {
    const name = nameOf(file.path)
    if (file.status === 'failed')
      say(`  ${name}: not used: ${file.problem ?? 'unreadable'}${file.detail ? ` (${file.detail})` : ''}`)
    if (file.status === 'used') say(`  ${name}: ${file.used} of ${file.read} records${dropped(file.dropped)}`)
  }
  const known = files.filter((file) => file.status === 'processed').length
  if (known > 0) say(`  ${known} files were processed by an earlier run`)
  if (train.examples + held.examples === 0) return
  const duplicates = totals.duplicates.exact + totals.duplicates.near
  const share = Math.round((100 * train.trainedTokens) / Math.max(1, train.tokens))
  say(
    `  ${train.examples} ${what} to train on, ${held.examples} to evaluate on, ${duplicates} duplicates left out; ${train.tokens} tokens, ${share}% of them trained`,
  )
}

function dropped(rules: Readonly<Record<string, number>>): string {
  const entries = Object.entries(rules)
  return entries.length === 0 ? '' : ` (dropped: ${entries.map(([rule, count]) => `${count} ${rule}`).join(', ')})`
}

/** The model's own words for a made-up message, greedily. */
export async function sampleAnswer(generator: TextGenerator, message: string): Promise<string> {
  let answer = ''
  const request = {
    messages: [{ role: 'user' as const, content: message }],
    temperature: 0,
    repetitionPenalty: 1.2,
    maxNewTokens: 60,
  }
  for await (const event of generator.generate(request)) if (event.type === 'token') answer += event.text
  return answer.trim()
}
