import type { Evaluation, StepRecord } from './state.js'

/** What a run tells while it goes. Numbers, names and paths only, never text of the training data. */
export type TrainerEvent =
  | {
      readonly type: 'start'
      /** Which run of the output folder this is, from 1; an incremental run has a number of its own. */
      readonly run: number
      readonly step: number
      readonly totalSteps: number
      /** The checkpoint that was resumed, or null. */
      readonly resumedFrom: string | null
    }
  | {
      readonly type: 'progress'
      readonly step: number
      readonly phase: 'train' | 'evaluate'
      readonly done: number
      readonly of: number
    }
  | { readonly type: 'step'; readonly record: StepRecord; readonly speed: Speed }
  | { readonly type: 'evaluate'; readonly evaluation: Evaluation }
  | { readonly type: 'save'; readonly checkpoint: string; readonly step: number; readonly seconds: number }
  /** An adapter is on the Hub, or could not be brought there, or the run waits for it; `message` is the line that says so. */
  | {
      readonly type: 'publish'
      readonly status: 'published' | 'failed' | 'waiting'
      readonly folder: string
      readonly message: string
    }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'dashboard'; readonly url: string }
  | { readonly type: 'stop'; readonly status: RunStatus; readonly message: string; readonly step: number }

export type RunStatus = 'finished' | 'stopped' | 'diverged' | 'nothing-new'

/** What differs from machine to machine and run to run; logged apart from the records that resume reproduces. */
export interface Speed {
  /** Trained and untrained tokens per second since the last record. */
  readonly tokensPerSecond: number
  readonly secondsPerStep: number
  /** Since the start of the process. */
  readonly elapsedSeconds: number
  /** Until the last step at this speed. */
  readonly remainingSeconds: number
  readonly budgetSeconds: number | null
  readonly residentBytes: number
}

export type EventOf<Type extends TrainerEvent['type']> = Extract<TrainerEvent, { type: Type }>

/** Listeners by event type, all optional. */
export type TrainerCallbacks = { readonly [Type in TrainerEvent['type']]?: (event: EventOf<Type>) => void }

/**
 * The events of a run, for callbacks and as an async iterable (each loop sees every event from when it began to the end of
 * the run). A listener that throws cannot harm the run: its first error is reported as a warning, and it is not called again.
 */
export class TrainerEvents implements AsyncIterable<TrainerEvent> {
  private readonly listeners = new Set<(event: TrainerEvent) => void>()
  private readonly queues = new Set<EventQueue>()
  private closed = false

  /** Calls `listener` for one type of event. Returns the function that ends it. */
  on<Type extends TrainerEvent['type']>(type: Type, listener: (event: EventOf<Type>) => void): () => void {
    return this.onAny((event) => {
      if (event.type === type) listener(event as EventOf<Type>)
    })
  }

  onAny(listener: (event: TrainerEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Adds all of `callbacks`. */
  addCallbacks(callbacks: TrainerCallbacks): void {
    this.onAny((event) => (callbacks[event.type] as ((event: TrainerEvent) => void) | undefined)?.(event))
  }

  emit(event: TrainerEvent): void {
    for (const queue of this.queues) queue.push(event)
    for (const listener of [...this.listeners]) {
      try {
        listener(event)
      } catch (error) {
        this.listeners.delete(listener)
        const reason = error instanceof Error ? error.message : String(error)
        this.emit({ type: 'warning', message: `a listener of '${event.type}' events failed and is removed: ${reason}` })
      }
    }
  }

  /** Ends all iterations once they have read what was emitted. */
  close(): void {
    this.closed = true
    for (const queue of this.queues) queue.close()
  }

  [Symbol.asyncIterator](): AsyncIterator<TrainerEvent> {
    const queue = new EventQueue(() => this.queues.delete(queue))
    if (this.closed) queue.close()
    else this.queues.add(queue)
    return queue
  }
}

class EventQueue implements AsyncIterator<TrainerEvent> {
  private readonly events: TrainerEvent[] = []
  private wake: (() => void) | null = null
  private closed = false

  constructor(private readonly onEnd: () => void) {}

  push(event: TrainerEvent): void {
    this.events.push(event)
    this.wake?.()
  }

  close(): void {
    this.closed = true
    this.wake?.()
  }

  async next(): Promise<IteratorResult<TrainerEvent>> {
    for (;;) {
      const value = this.events.shift()
      if (value !== undefined) return { value, done: false }
      if (this.closed) return { value: undefined, done: true }
      await new Promise<void>((resolve) => (this.wake = resolve))
      this.wake = null
    }
  }

  return(): Promise<IteratorResult<TrainerEvent>> {
    this.onEnd()
    this.closed = true
    this.events.length = 0
    return Promise.resolve({ value: undefined, done: true })
  }
}
