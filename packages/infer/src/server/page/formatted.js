// @ts-check
import { create } from './dom.js'

/**
 * The little formatting that language models use, as elements: paragraphs, lists, **bold**, *italic* and `code`. Everything
 * else, HTML and links included, stays the text that it is.
 * @param {string} text
 * @returns {Node[]}
 */
export function formatted(text) {
  return text
    .split(/\n{2,}/)
    .filter((block) => block.trim() !== '')
    .flatMap(blocks)
}

/**
 * A paragraph, or a list with the paragraph before it.
 * @param {string} block
 * @returns {Node[]}
 */
function blocks(block) {
  /** @type {Node[]} */
  const out = []
  /** @type {string[]} */
  let lines = []
  const endParagraph = () => {
    if (lines.length > 0) out.push(create('p', {}, ...withBreaks(lines)))
    lines = []
  }
  for (const line of block.split('\n')) {
    const item = /^\s*(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/.exec(line)
    if (item === null) {
      lines.push(line)
      continue
    }
    endParagraph()
    const tag = item[1] === undefined ? 'ul' : 'ol'
    const last = out.at(-1)
    const list = last instanceof HTMLElement && last.localName === tag ? last : create(tag, startOf(item[1]))
    if (list !== last) out.push(list)
    list.append(create('li', {}, ...inline(item[2])))
  }
  endParagraph()
  return out
}

/**
 * @param {string | undefined} number
 * @returns {Record<string, string>}
 */
const startOf = (number) => (number === undefined || number === '1' ? {} : { start: number })

/**
 * @param {string[]} lines
 * @returns {Node[]}
 */
function withBreaks(lines) {
  return lines.flatMap((line, i) => (i === 0 ? inline(line) : [create('br'), ...inline(line)]))
}

const marks = /(\*\*(?=\S)(.+?)(?<=\S)\*\*|`([^`]+)`|(?<![\w*])\*(?=[^\s*])([^*]+?)(?<=\S)\*(?![\w*]))/g

/**
 * @param {string} text
 * @returns {Node[]}
 */
function inline(text) {
  /** @type {Node[]} */
  const out = []
  let at = 0
  for (const match of text.matchAll(marks)) {
    out.push(document.createTextNode(text.slice(at, match.index)))
    const [whole, , bold, code, italic] = match
    if (bold !== undefined) out.push(create('strong', {}, bold))
    else if (code !== undefined) out.push(create('code', {}, code))
    else out.push(create('em', {}, italic))
    at = match.index + whole.length
  }
  out.push(document.createTextNode(text.slice(at)))
  return out
}
