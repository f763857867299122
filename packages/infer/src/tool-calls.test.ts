import { describe, expect, it } from 'vitest'
import { ToolCallReader, parseToolCalls } from './tool-calls.js'

function read(marker: 'control' | 'text', pieces: (string | { toolCalls: true })[]) {
  const reader = new ToolCallReader(marker)
  const shown = pieces.map((p) => reader.push(typeof p === 'string' ? { text: p } : { text: '', ...p })).join('')
  return { shown, ...reader.finish() }
}

describe('parseToolCalls', () => {
  it('reads one or several calls, with and without ids, and arguments given as a string', () => {
    expect(parseToolCalls(' [{"name": "a", "arguments": {"x": [1, "]"]}, "id": "abcdef123"}, {"name":"b"}]')).toEqual({
      ok: true,
      calls: [
        { name: 'a', arguments: { x: [1, ']'] }, id: 'abcdef123' },
        { name: 'b', arguments: {} },
      ],
      rest: '',
    })
    expect(parseToolCalls('{"name":"a","arguments":"{\\"q\\": \\"}\\"}"} and more')).toEqual({
      ok: true,
      calls: [{ name: 'a', arguments: { q: '}' } }],
      rest: 'and more',
    })
  })

  it.each([
    ['', 'nothing follows'],
    ['  ', 'nothing follows'],
    ['sorry', 'does not end'],
    ['[{"name": "a", "argum', 'does not end'],
    ['[{name: "a"}]', 'are not JSON'],
    ['[]', 'there must be 1 to 64'],
    ['[{"arguments": {}}]', 'needs a "name"'],
    ['[{"name": "a", "arguments": [1]}]', 'needs a "name"'],
    ['[{"name": "a", "arguments": "nope"}]', 'needs a "name"'],
    ['[1]', 'needs a "name"'],
  ])('says what is wrong with %j and repeats nothing of it', (text, problem) => {
    const parse = parseToolCalls(text)
    expect(parse.ok).toBe(false)
    if (!parse.ok) expect(parse.problem).toContain(problem)
  })
})

describe('ToolCallReader', () => {
  it('finds a spelled marker that is split over pieces and shows the text around the calls', () => {
    const { shown, text, parse } = read('text', ['I will look', ' it up. [TOOL', '_CALLS] [{"name"', ':"f"}] Done.'])
    expect([shown, text]).toEqual(['I will look it up. ', 'Done.'])
    expect(parse).toMatchObject({ ok: true, calls: [{ name: 'f', arguments: {} }] })
  })

  it('loses nothing of a text that only resembles the marker', () => {
    expect(read('text', ['a [TOOL', 'BOX] [TOOL_CALL'])).toMatchObject({ shown: 'a [TOOLBOX] ', text: '[TOOL_CALL' })
  })

  it('takes a spelled marker for text where there is a control token', () => {
    expect(read('control', ['[TOOL_CALLS] [{"name":"f"}]'])).toMatchObject({
      shown: '[TOOL_CALLS] [{"name":"f"}]',
      parse: undefined,
    })
    expect(read('control', ['a', { toolCalls: true }, '[{"name":"f"}]']).parse).toMatchObject({ ok: true })
  })
})
