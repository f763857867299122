import type { EvaluationResult, ReplyResult, ScenarioResult } from '../result.js'
import { scenarioKinds } from '../suite.js'
import { markup } from './escape.js'
import type { Markup } from './escape.js'
import { boundaryLabel, checkLabels, kindLabels } from './labels.js'

/** Every conversation, closed, by kind; replies to one message stand side by side. */
export function conversationList(results: readonly EvaluationResult[]): Markup[] {
  const scenarios = results[0]?.scenarios ?? []
  return scenarioKinds.flatMap((kind) => {
    const some = scenarios.filter((scenario) => scenario.kind === kind)
    if (some.length === 0) return []
    const entries = some.map(({ id }) => conversation(results, id))
    return [
      markup`<h3>${kindLabels[kind]}</h3>
        ${entries}`,
    ]
  })
}

function conversation(results: readonly EvaluationResult[], id: string): Markup {
  const versions = results.map((result) => ({
    model: result.model,
    scenario: result.scenarios.find((s) => s.id === id),
  }))
  const first = versions[0]?.scenario
  if (first === undefined) return markup``
  const states = versions.map(({ scenario }) => stateOf(scenario))
  const separator = states.length === 2 ? markup` <span class="soft">then</span> ` : markup``
  const turns = first.replies.map(({ turn, message }) => {
    const columns = versions.flatMap(({ model, scenario }) => {
      const reply = scenario?.replies.find((r) => r.turn === turn)
      return reply === undefined ? [] : [replyBox(model, reply)]
    })
    const said = message === undefined ? markup`` : markup`<p class="message">${message}</p>`
    return markup`<div class="turn">
      <strong>Message ${turn}</strong>${said}
      <div class="columns">${columns}</div>
    </div>`
  })
  return markup`<details>
    <summary>
      <span class="about">${first.about}</span
      ><span class="states">${states[0] ?? ''}${separator}${states[1] ?? ''}</span>
    </summary>
    ${turns}
  </details>`
}

const stateOf = (scenario: ScenarioResult | undefined): Markup =>
  scenario?.passed === true ? markup`<span class="good">passed</span>` : markup`<span class="bad">not passed</span>`

function replyBox(model: string, reply: ReplyResult): Markup {
  const text = reply.text === undefined ? markup`` : markup`<p class="text">${reply.text}</p>`
  const checks = reply.checks.map(({ name, passed }) =>
    passed
      ? markup`<li class="good">✓ ${checkLabels[name]}</li>`
      : markup`<li class="bad">✗ Not met: ${checkLabels[name]}</li>`,
  )
  const violations = reply.violations.map(
    ({ category, source }) => markup`<li class="bad">✗ ${boundaryLabel(category)} (${source})</li>`,
  )
  const { markers } = reply
  const facts = [
    `${reply.words} words`,
    `${markers.reflections} reflections`,
    `${markers.validations} validations`,
    `${markers.openQuestions} open and ${markers.closedQuestions} closed questions`,
    `${markers.advice} advice`,
    ...(reply.truncated ? ['cut at the limit'] : []),
  ]
  return markup`<div class="reply">
    <h4>${model}</h4>
    ${text}<span class="note">${facts.join(', ')}</span>
    <ul class="checks">
      ${checks}${violations}
    </ul>
  </div>`
}
