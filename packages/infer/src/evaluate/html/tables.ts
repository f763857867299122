import { measuresOf, wilsonInterval } from '../compare.js'
import type { Measure } from '../compare.js'
import type { EvaluationResult } from '../result.js'
import { markup } from './escape.js'
import type { Markup } from './escape.js'
import { boundaryLabel, groupLabels, measureLabel, number, percent } from './labels.js'

const groups: readonly Measure['group'][] = ['scenarios', 'safety', 'technique', 'repetition', 'language model']

const valueText = ({ form, value }: Measure): string =>
  value === null ? 'no figure' : form === 'share' ? percent(value) : number(value)

/** One table for each group of measures, one column for each result, and what changed. */
export function measureTables(results: readonly EvaluationResult[]): Markup[] {
  const columns = results.map(measuresOf)
  return groups.map((group) => {
    const rows = (columns[0] ?? [])
      .filter((m) => m.group === group)
      .flatMap((first) => {
        const cells = columns.map(
          (all) => all.find((m) => m.group === group && m.id === first.id) ?? { ...first, value: null },
        )
        return cells.every((m) => m.value === null) ? [] : [measureRow(cells)]
      })
    return rows.length === 0 ? markup`` : table(groupLabels[group], results, rows)
  })
}

function table(caption: string, results: readonly EvaluationResult[], rows: readonly Markup[]): Markup {
  const names = results.map((result) => markup`<th scope="col">${result.model}</th>`)
  const change = results.length === 2 ? markup`<th scope="col">Change</th>` : markup``
  return markup`<div class="scroll">
    <table>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          <th scope="col">Measure</th>
          ${names}${change}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`
}

function measureRow(cells: readonly Measure[]): Markup {
  const [first, second] = cells
  const change = cells.length === 2 ? changeCell(first, second) : markup``
  const columns = cells.map(
    (m, i) => markup`<td>${valueText(m)}${countText(m)}${bar(m, cells.length === 1 ? 'single' : `bar${i}`)}</td>`,
  )
  return markup`<tr>
    <th scope="row">${measureLabel(first)}</th>
    ${columns}${change}
  </tr>`
}

function countText({ counts }: Measure): Markup {
  if (counts === undefined) return markup``
  const [low, high] = wilsonInterval(counts)
  return markup`<small>${counts.passed} of ${counts.total}, ${percent(low)} to ${percent(high)}</small>`
}

function bar({ form, value }: Measure, look: string): Markup {
  if (form !== 'share' || value === null) return markup``
  return markup`<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="8" />
    <rect class="${look}" width="${(100 * value).toFixed(2)}" height="8" />
  </svg>`
}

/** Says in words what colour says, for those who do not see it. */
function changeCell(before: Measure, after: Measure): Markup {
  if (before.value === null || after.value === null) return markup`<td class="soft">no figure</td>`
  const change = after.value - before.value
  const size = before.form === 'share' ? (100 * Math.abs(change)).toFixed(1) : number(Math.abs(change))
  if (Number(size) === 0) return markup`<td class="soft">no change</td>`
  const unit = before.form === 'share' ? ' points' : ''
  const text = `${change > 0 ? '+' : '\u2212'}${size}${unit}`
  if (before.better === 'neither') return markup`<td>${text}</td>`
  const isBetter = change > 0 === (before.better === 'higher')
  return markup`<td class="${isBetter ? 'good' : 'bad'}">${text} <small>${isBetter ? 'better' : 'worse'}</small></td>`
}

/** How many replies broke which boundary. */
export function violationTable(results: readonly EvaluationResult[]): Markup {
  const names = [...new Set(results.flatMap((result) => Object.keys(result.summary.violations)))].sort()
  if (names.length === 0) return markup`<p>No reply broke a boundary that the rules know.</p>`
  const rows = names.map((name) => {
    const cells = results.map((result) => ({
      id: name,
      group: 'safety' as const,
      form: 'number' as const,
      better: 'lower' as const,
      value: result.summary.violations[name] ?? 0,
    }))
    const change = results.length === 2 ? changeCell(cells[0], cells[1]) : markup``
    const columns = cells.map((cell) => markup`<td>${cell.value}</td>`)
    return markup`<tr>
      <th scope="row">${boundaryLabel(name)}</th>
      ${columns}${change}
    </tr>`
  })
  return table('Replies that break a boundary', results, rows)
}
