/** Stand around what an assistant turn produced. Unicode noncharacters, which no text has a use for. */
export const START = '\uFDD0'
export const END = '\uFDD1'

export interface Span {
  /** [start, end) in UTF-16 units of the text without marks. */
  start: number
  end: number
}

const TAG = /(^[ \t]*)?\{%(-?)\s*(end)?generation\s*(-?)%\}(\n?)/gm

export function hasGenerationBlocks(template: string): boolean {
  return template.search(TAG) >= 0
}

/**
 * Makes `{% generation %}` blocks write marks. The library that renders templates drops the tags; the expressions that
 * replace them here take the white space away that Jinja takes away at a tag (`trim_blocks`, `lstrip_blocks`, `-`).
 */
export function markGenerationBlocks(template: string): string {
  return template.replaceAll(
    TAG,
    (_tag, indent: string | undefined, left: string, end, right: string, newline: string) => {
      const before = left === '' ? '' : (indent ?? '')
      const after = right === '' ? '' : newline
      return `${before}{{${left} mirastral_${end === undefined ? 'start' : 'end'} ${right}}}${after}`
    },
  )
}

export const MARK_VARIABLES = { mirastral_start: START, mirastral_end: END }

export function withoutMarks(written: string): string {
  return written.replaceAll(/[\uFDD0\uFDD1]/g, '')
}

/** The marked spans in order, or null where the marks do not come in pairs. */
export function markedSpans(written: string): Span[] | null {
  const spans: Span[] = []
  let start = -1
  let marks = 0
  for (const { 0: mark, index } of written.matchAll(/[\uFDD0\uFDD1]/g)) {
    const position = index - marks++
    if ((mark === START) !== start < 0) return null
    if (mark === END) spans.push({ start, end: position })
    start = mark === START ? position : -1
  }
  return start < 0 ? spans : null
}
