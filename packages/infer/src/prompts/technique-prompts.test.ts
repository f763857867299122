import { describe, expect, it } from 'vitest'
import { InferError } from '../errors.js'
import { latestPromptVersion, techniquePrompt, techniquePrompts } from './index.js'
import { promptsOfVersion } from './technique-prompts.js'
import type { TechniquePrompt } from './technique-prompts.js'

const ids = ['active-listening', 'reflection', 'validation', 'open-questions', 'collaborative-goals']

const part = (id: string, version: number, text: string): TechniquePrompt => ({
  id,
  version,
  place: 'chosen',
  technique: id,
  purpose: 'testing',
  text,
})

describe('the technique prompts', () => {
  it('cover the five techniques between the role and what to do in a crisis', () => {
    const prompts = techniquePrompts()
    expect(prompts.map((p) => p.id)).toEqual(['role', ...ids, 'safety'])
    expect(prompts.filter((p) => p.place === 'chosen').map((p) => p.id)).toEqual(ids)
  })

  it('are composed in the order asked for, with the frame around them', () => {
    const text = new Map(techniquePrompts().map((p) => [p.id, p.text]))
    expect(techniquePrompt(['validation', 'reflection'])).toBe(
      ['role', 'validation', 'reflection', 'safety'].map((id) => text.get(id)).join('\n\n'),
    )
    expect(techniquePrompt([])).toBe(`${text.get('role')}\n\n${text.get('safety')}`)
  })

  it('always say what the assistant is not, and how to act in a crisis, even without techniques', () => {
    const frame = techniquePrompt([])
    for (const said of [
      'an AI',
      'not a person',
      'no advice about medicines',
      'do not promise secrecy',
      'ask about it directly',
    ])
      expect(frame).toContain(said)
    expect(frame).toContain('emergency number')
  })

  it('stay short enough for a small context window', () => {
    expect(techniquePrompt(ids).split(/\s+/).length).toBeLessThan(560)
  })

  it('refuse unknown and repeated ids in one message', () => {
    const compose = (): string => techniquePrompt(['hypnosis', 'reflection', 'reflection', 'safety'])
    expect(compose).toThrow(InferError)
    expect(compose).toThrow(/3 problems:\n {2}- unknown "hypnosis"\n {2}- unknown "safety"\n {2}- "reflection" twice$/)
  })

  it('refuse an edition that does not exist', () => {
    const newest = latestPromptVersion()
    for (const version of [0, 1.5, newest + 1])
      expect(() => techniquePrompt([], { version })).toThrow(`from 1 to ${newest}, got ${version}`)
  })
})

describe('promptsOfVersion', () => {
  const history = [part('a', 1, 'a one'), part('b', 2, 'b two'), part('a', 3, 'a three'), part('c', 1, 'c one')]
  const texts = (version?: number): string[] => promptsOfVersion(history, version).map((p) => p.text)

  it('gives every id the newest text of its edition, and the newest edition by default', () => {
    expect(texts(1)).toEqual(['a one', 'c one'])
    expect(texts(2)).toEqual(['a one', 'b two', 'c one'])
    expect(texts(3)).toEqual(['a three', 'b two', 'c one'])
    expect(texts()).toEqual(texts(3))
  })
})
