import { describe, expect, it } from 'vitest'
import type { TrainerEvent } from './events.js'
import { TrainerEvents } from './events.js'

const save = (step: number): TrainerEvent => ({ type: 'save', checkpoint: `checkpoint-${step}`, step, seconds: 1 })
const warning: TrainerEvent = { type: 'warning', message: 'careful' }

describe('events', () => {
  it('reach callbacks by type until they are taken away', () => {
    const events = new TrainerEvents()
    const seen: number[] = []
    const remove = events.on('save', (event) => seen.push(event.step))
    events.addCallbacks({ warning: () => seen.push(-1) })
    events.emit(save(1))
    events.emit(warning)
    remove()
    events.emit(save(2))
    expect(seen).toEqual([1, -1])
  })

  it('reach every async iteration, in order, until the run closes', async () => {
    const events = new TrainerEvents()
    const collect = async (): Promise<TrainerEvent[]> => {
      const found: TrainerEvent[] = []
      for await (const event of events) found.push(event)
      return found
    }
    const both = Promise.all([collect(), collect()])
    events.emit(save(1))
    await Promise.resolve()
    events.emit(warning)
    events.emit(save(2))
    events.close()
    expect(await both).toEqual([
      [save(1), warning, save(2)],
      [save(1), warning, save(2)],
    ])
    expect(await collect()).toEqual([])
  })

  it('are no longer kept for an iteration that was left', async () => {
    const events = new TrainerEvents()
    const left = (async () => {
      for await (const event of events) return event
      return null
    })()
    events.emit(save(1))
    expect(await left).toEqual(save(1))
    for (let i = 0; i < 10; i++) events.emit(save(i))
  })

  it('go on after a listener failed, which is told once', () => {
    const events = new TrainerEvents()
    const messages: string[] = []
    let calls = 0
    events.on('save', () => {
      calls++
      throw new Error('no paper')
    })
    events.on('warning', (event) => messages.push(event.message))
    events.emit(save(1))
    events.emit(save(2))
    expect(calls).toBe(1)
    expect(messages).toEqual(["a listener of 'save' events failed and is removed: no paper"])
  })
})
