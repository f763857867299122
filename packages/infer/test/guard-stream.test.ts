import { GuardedStream, SafetyGuard, SentenceWatch, guardGenerator } from '@mirastral/infer'
import type { OutputJudge } from '@mirastral/infer'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scriptedGenerator } from './support/scripted-generator.js'

const guard = SafetyGuard.load({ country: 'US' })
const finding = { category: 'medication', severity: 'high', reading: 'plain', evidence: { start: 0, end: 0 }, source: 'test', score: 1 } as const // prettier-ignore

/** Unsafe is what says so; it counts how much it was asked to read. */
function wordJudge(): OutputJudge & { readonly read: number } {
  let read = 0
  return {
    get read() {
      return read
    },
    unsafe: (text) => {
      read += text.length
      return text.includes('UNSAFE') ? [finding] : []
    },
    ending: () => ({ text: '[end]' }),
  }
}

/** Everything that is shown of an answer that comes in these pieces. */
function shown(pieces: readonly string[], judge: OutputJudge): { text: string; ended: boolean } {
  const watch = new SentenceWatch(judge)
  let text = ''
  for (const step of [...pieces.map((piece) => () => watch.push(piece)), () => watch.finish()]) {
    const { text: next, ending } = step()
    text += next
    if (ending) return { text, ended: true }
  }
  return { text, ended: false }
}

function cut(text: string, places: readonly number[]): string[] {
  const at = [0, ...new Set(places.map((p) => p % (text.length + 1))), text.length].sort((a, b) => a - b)
  return at.slice(1).map((end, i) => text.slice(at[i], end))
}

const words = fc.array(fc.constantFrom('good', 'day, ', ' yes. ', '\n', 'Really? ', '🙂', ' and so on', 'x'.repeat(150), 'UNSAFE', '... '), { maxLength: 30 }) // prettier-ignore

describe('SentenceWatch', () => {
  it('shows the same however the answer is cut into pieces, and nothing unsafe', () => {
    fc.assert(
      fc.property(words, fc.array(fc.nat(), { maxLength: 40 }), (list, places) => {
        const text = list.join('')
        const whole = shown([text], wordJudge())
        expect(shown(cut(text, places), wordJudge())).toEqual(whole)
        expect(shown([...text], wordJudge())).toEqual(whole)
        expect(text.startsWith(whole.text)).toBe(true)
        expect(whole.text).not.toContain('UNSAFE')
        expect(whole.ended).toBe(text.includes('UNSAFE'))
      }),
      { numRuns: 300 },
    )
  })

  it('shows each sentence as soon as it has ended', () => {
    const watch = new SentenceWatch(wordJudge())
    expect(watch.push('I hear you. That sounds').text).toBe('I hear you. ')
    expect(watch.push(' hard.').text).toBe('')
    expect(watch.push(' What').text).toBe('That sounds hard. ')
    expect(watch.finish().text).toBe('What')
  })

  it('does not hold back a long sentence for ever, and reads each part a bounded number of times', () => {
    const judge = wordJudge()
    const text = 'word '.repeat(20_000)
    const watch = new SentenceWatch(judge)
    const first = watch.push(text)
    expect(text.length - first.text.length).toBeLessThanOrEqual(400)
    expect(judge.read).toBeLessThan(10 * text.length)
  })
})

describe('the guard before an answer', () => {
  const answer =
    'It sounds like the nights are the worst. You are not alone with this. I would double your sertraline to 200 mg from tonight. Then we will see.'
  const safe = 'It sounds like the nights are the worst. You are not alone with this. '

  it('shows what is safe before the unsafe sentence, for every cut into two pieces', async () => {
    const collect = async (pieces: readonly string[]): Promise<string> => {
      const source = async function* () {
        yield* pieces
        await Promise.resolve()
      }
      const stream = new GuardedStream(source(), guard)
      let text = ''
      for await (const piece of stream) text += piece
      expect(stream.verdict?.blocked).toBe(true)
      return text
    }
    const whole = await collect([answer])
    expect(whole.startsWith(safe)).toBe(true)
    expect(whole).not.toContain('sertraline')
    for (let at = 1; at < answer.length; at += 7)
      expect(await collect([answer.slice(0, at), answer.slice(at)])).toBe(whole)
    expect(await collect([...answer])).toBe(whole)
  })

  it('ends with the reason content_filter, a notice and where to turn to', async () => {
    const generator = guardGenerator(scriptedGenerator([{ pieces: answer.split(/(?<= )/) }]), guard)
    const events = []
    for await (const event of generator.generate({ messages: [{ role: 'user', content: 'I cannot sleep.' }] }))
      events.push(event)
    expect(events.at(-1)).toMatchObject({ type: 'finish', reason: 'content_filter' })
    expect(events).toContainEqual(
      expect.objectContaining({
        type: 'notice',
        notice: expect.objectContaining({ category: 'medication' }) as object,
      }),
    )
  })

  it('lets a safe answer through unchanged', async () => {
    const pieces = [
      'That sounds exhausting. ',
      'What helped',
      ' a little, last time? ',
      'A pharmacist can check the dose.',
    ]
    const stream = new GuardedStream(
      (async function* () {
        yield* pieces
        await Promise.resolve()
      })(),
      guard,
    )
    let text = ''
    for await (const piece of stream) text += piece
    expect(text).toBe(pieces.join(''))
    expect(stream.verdict).toEqual({ blocked: false })
  })

  it('stops when the request is aborted, and closes the model', async () => {
    const controller = new AbortController()
    const pieces = Array.from({ length: 50 }, () => 'One more sentence. ')
    const generator = guardGenerator(scriptedGenerator([{ pieces }]), guard)
    const seen: string[] = []
    const run = async (): Promise<void> => {
      const request = { messages: [{ role: 'user' as const, content: 'Tell me a story.' }] }
      for await (const event of generator.generate(request, controller.signal)) {
        if (event.type === 'token') seen.push(event.text)
        if (seen.length === 3) controller.abort()
      }
    }
    await run().catch((error: unknown) => expect((error as Error).name).toBe('AbortError'))
    expect(seen.length).toBeLessThan(10)
  })
})
