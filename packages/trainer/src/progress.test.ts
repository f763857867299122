import { describe, expect, it } from 'vitest'
import type { TrainerEvent } from './events.js'
import { TrainerEvents } from './events.js'
import { showProgress } from './progress.js'

const stepEvent = (step: number, elapsedSeconds: number): TrainerEvent => ({
  type: 'step',
  record: { run: 1, step, epoch: step / 6, loss: 2.5, gradNorm: 0.75, learningRate: 2e-5, tokens: 100 },
  speed: {
    tokensPerSecond: 1234,
    secondsPerStep: 5,
    elapsedSeconds,
    remainingSeconds: 5 * (12 - step),
    budgetSeconds: 3060,
    residentBytes: 1e9,
  },
})

const story = (clock: { now: number }, events: TrainerEvents): void => {
  events.emit({ type: 'start', run: 1, step: 0, totalSteps: 12, resumedFrom: null })
  for (let step = 1; step <= 6; step++) {
    clock.now += 4
    events.emit({ type: 'progress', step: step - 1, phase: 'train', done: 2, of: 4 })
    clock.now += 1
    events.emit(stepEvent(step, clock.now))
  }
  const evaluation = {
    run: 1,
    step: 6,
    epoch: 1,
    evalLoss: 2.25,
    evalPerplexity: 9.4877,
    evalTokenAccuracy: 0.5,
    evalTokens: 80,
  }
  events.emit({ type: 'progress', step: 6, phase: 'evaluate', done: 1, of: 3 })
  events.emit({ type: 'evaluate', evaluation })
  events.emit({ type: 'save', checkpoint: '/runs/a/results/checkpoint-6', step: 6, seconds: 1.2 })
  events.emit({ type: 'warning', message: 'step 6: something odd' })
  events.emit({ type: 'stop', status: 'stopped', message: 'stopped by signal SIGTERM at step 6 of 12, saved', step: 6 })
}

const show = (stream: { isTTY?: boolean; columns?: number }): string => {
  let text = ''
  const clock = { now: 20 }
  const events = new TrainerEvents()
  const end = showProgress(events, {
    stream: { ...stream, write: (more: string) => (text += more) },
    elapsed: () => clock.now,
    lineSeconds: 12,
  })
  story(clock, events)
  end()
  return text
}

describe('progress', () => {
  it('is clean lines where the stream is not a terminal', () => {
    expect(show({})).toBe(
      [
        'starting: step 0 of 12',
        'step 1/12: loss 2.5, lr 2e-5, 1,234 tok/s, 55 s left, budget 00:25 of 51:00, grad norm 0.75, epoch 0.17',
        'step 4/12: loss 2.5, lr 2e-5, 1,234 tok/s, 40 s left, budget 00:40 of 51:00, grad norm 0.75, epoch 0.67',
        'step 6: eval loss 2.25, perplexity 9.488, token accuracy 50.0%',
        'step 6: saved checkpoint-6 in 1 s',
        'warning: step 6: something odd',
        'step 6/12: loss 2.5, lr 2e-5, 1,234 tok/s, 30 s left, budget 00:50 of 51:00, grad norm 0.75, epoch 1.00',
        'stopped by signal SIGTERM at step 6 of 12, saved',
        '',
      ].join('\n'),
    )
  })

  it('is one line that is written over on a terminal, and never wider than it', () => {
    const text = show({ isTTY: true, columns: 70 })
    const drawn = text.split(/\r\u001b\[2K|\n/)
    expect(drawn.every((line) => line.length < 70)).toBe(true)
    expect(drawn).toContain('█████████░░░░░░░░░░░ 5/12  loss 2.5  lr 2e-5  1,234 tok/s  31 s left')
    expect(drawn).toContain('██████████░░░░░░░░░░ 6/12  evaluating 1/3  loss 2.5  lr 2e-5')
    const kept = text.split('\n').map((line) => line.split('\r\u001b[2K').at(-1))
    expect(kept).toEqual([
      'starting: step 0 of 12',
      'step 6: eval loss 2.25, perplexity 9.488, token accuracy 50.0%',
      'step 6: saved checkpoint-6 in 1 s',
      'warning: step 6: something odd',
      'stopped by signal SIGTERM at step 6 of 12, saved',
      '',
    ])
  })
})
