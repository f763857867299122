import { describe, expect, it, vi } from 'vitest'
import { describeStop, installSignalHandlers, StopRequested, StopSource } from './signals.js'

describe('signals', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGUSR1'] as const)(
    '%s asks for a stop, a second signal ends the process',
    (signal) => {
      const stop = new StopSource()
      const exit = vi.fn()
      const onFirst = vi.fn()
      const remove = installSignalHandlers(stop, { exit, onFirst })
      process.emit(signal)
      expect(stop.requested).toEqual({ kind: 'signal', signal })
      expect(onFirst).toHaveBeenCalledExactlyOnceWith(signal)
      expect(exit).not.toHaveBeenCalled()
      process.emit(signal)
      expect(exit, 'an echo of the first one').not.toHaveBeenCalled()
      process.emit(signal === 'SIGTERM' ? 'SIGINT' : 'SIGTERM')
      expect(exit).toHaveBeenCalledExactlyOnceWith(signal === 'SIGTERM' ? 130 : 143)
      vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 250)
      process.emit(signal)
      expect(exit).toHaveBeenCalledTimes(2)
      vi.restoreAllMocks()
      remove()
      expect(process.listeners(signal)).toEqual([])
    },
  )
})

describe('a stop source', () => {
  it('keeps its first reason and tells it to whoever waits or asks', () => {
    const stop = new StopSource()
    expect(() => stop.throwIfRequested()).not.toThrow()
    const heard: unknown[] = []
    stop.signal.addEventListener('abort', () => heard.push(stop.signal.reason))
    stop.request({ kind: 'budget', seconds: 3060 })
    stop.request({ kind: 'request', by: 'someone' })
    expect(stop.requested).toEqual({ kind: 'budget', seconds: 3060 })
    expect(heard).toHaveLength(1)
    expect(heard[0]).toBeInstanceOf(StopRequested)
    expect(() => stop.throwIfRequested()).toThrow('stopped: time budget of 51 min')
  })

  it.each([
    [{ kind: 'signal', signal: 'SIGTERM' } as const, 'signal SIGTERM'],
    [{ kind: 'budget', seconds: 90 } as const, 'time budget of 1.5 min'],
    [{ kind: 'budget', seconds: 12.345 } as const, 'time budget of 12.35 s'],
    [{ kind: 'request', by: 'the dashboard' } as const, 'the dashboard'],
  ])('is described in words: %j', (reason, words) => {
    expect(describeStop(reason)).toBe(words)
  })
})
