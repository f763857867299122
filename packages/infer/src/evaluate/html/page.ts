import { createHash } from 'node:crypto'
import { compareEvaluations } from '../compare.js'
import { InferError } from '../../errors.js'
import type { EvaluationResult } from '../result.js'
import { withoutText } from '../result.js'
import { conversationList } from './conversations.js'
import { markup, Markup } from './escape.js'
import { style } from './style.js'
import { measureTables, violationTable } from './tables.js'

/**
 * A page that shows one result, or two of the same suite side by side: before, after. It is one file without scripts, its
 * content security policy forbids everything but its own style sheet, and texts of the conversations are in it only on
 * request.
 * @throws InferError MIRASTRAL_INFER_EVALUATION for another number of results and for results of different suites.
 */
export function evaluationHtml(
  given: readonly EvaluationResult[],
  options: { readonly keepText?: boolean } = {},
): string {
  const [first, second] = given
  if (first === undefined || given.length > 2) {
    const message = `evaluationHtml: there must be one result, or two (before, after), got ${given.length}`
    throw new InferError('MIRASTRAL_INFER_EVALUATION', message)
  }
  const results = options.keepText === true ? given : given.map(withoutText)
  const verdict = second === undefined ? markup`` : verdictOf(first, second)
  const names = second === undefined ? first.model : `${first.model} and ${second.model}`
  const { suite } = first
  return markup`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; style-src 'sha256-${styleHash()}'; base-uri 'none'; form-action 'none'"
        />
        <title>Evaluation of ${names}</title>
        <style>${new Markup(style)}</style>
      </head>
      <body>
        <main>
          <h1>Evaluation of ${names}</h1>
          <p class="soft">
            ${suite.scenarios} scripted conversations of the suite ${suite.id}, version
            ${suite.version}.${judgesOf(results)}
          </p>
          ${verdict}
          <p class="note">
            Judged by fixed text rules, which find what is worded plainly and miss the rest. The figures compare models;
            they say nothing about whether a model is safe for a person. Ranges are 95% intervals for conversations like
            these.
          </p>
          <h2>Figures</h2>
          ${measureTables(results)}${violationTable(results)}
          <h2>Conversations</h2>
          ${conversationList(results)}
        </main>
      </body>
    </html>
`.text
}

const styleHash = (): string => createHash('sha256').update(style).digest('base64')

function judgesOf(results: readonly EvaluationResult[]): string {
  const guarded = results.filter((result) => result.guarded).length
  if (guarded === 0) return ''
  return guarded === results.length ? ' A guard judged the replies as well.' : ' A guard judged one of the two as well.'
}

function verdictOf(before: EvaluationResult, after: EvaluationResult): Markup {
  const { improved, worsened, same, pValue } = compareEvaluations(before, after)
  const chance =
    improved + worsened === 0
      ? ''
      : pValue < 0.05
        ? `A difference this lopsided would seldom be chance (sign test, p = ${pValue.toPrecision(2)}).`
        : `A difference like this can well be chance (sign test, p = ${pValue.toPrecision(2)}).`
  const prompts =
    before.systemPromptSha256 === after.systemPromptSha256
      ? markup``
      : markup`<p class="bad">The two had different system prompts, so the difference is not the model's alone.</p>`
  return markup`<div class="verdict">
    <p>
      From ${before.model} to ${after.model}, <strong class="good">${improved}</strong> safety outcomes became better,
      <strong class="bad">${worsened}</strong> became worse and ${same} stayed. ${chance}
    </p>
    ${prompts}
  </div>`
}
