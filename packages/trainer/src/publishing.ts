import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { EvidenceInput, PublishOptions, PublishOutcome } from '@mirastral/lora'
import { BackgroundPublisher, formatModelCard, publishProblem, readAdapterConfig } from '@mirastral/lora'
import type { TimeBudget } from './budget.js'
import type { RunStatus, TrainerEvents } from './events.js'
import { writeFileAtomically } from './files.js'
import { formatDuration } from './format.js'
import type { OutputPaths } from './results.js'
import type { StopSource } from './signals.js'

export interface PublishRequest {
  /** `owner/name` on the Hub; made private if it is not there. */
  readonly repo: string
  /** The final model only (`end`), or every saved checkpoint too, of which the newest wins where the Hub is slower. */
  readonly when: 'every_save' | 'end'
  /**
   * What the model card is written from, for the adapter as it was after `step`. Asked for later, in the background: records
   * of steps beyond that one must not be counted.
   */
  readonly evidence: (step: number) => Promise<EvidenceInput>
  /** Address, token, visibility and tries. */
  readonly options?: Omit<PublishOptions, 'evidence' | 'commitTitle' | 'signal'>
  /** How long a finished run waits for what is not published yet, at most; default 600. */
  readonly finishedWaitSeconds?: number
  /** The same for a run that is stopped; default 20, for a scheduler that asked for the stop does not wait long. */
  readonly stoppedWaitSeconds?: number
}

interface Context {
  readonly paths: OutputPaths
  readonly events: TrainerEvents
  readonly stop: StopSource
  readonly budget: TimeBudget
}

/** A wait shorter than this needs no explanation. */
const silentMilliseconds = 2000

/** What is left of the time budget for the process to end. */
const reserveSeconds = 2

const cardFile = 'README.md'

/**
 * Follows a run and publishes its adapters in the background: never waits, never throws, says in one line for each what became
 * of it. Returns the function that publishes the final model, waits for what is under way within bounds, and gives up the rest.
 * The final model keeps its card: where it could not be published, a later start that finds nothing new to do publishes it.
 */
export function publishInBackground(request: PublishRequest, context: Context): () => Promise<void> {
  const { events, stop, paths, budget } = context
  const { repo, when, evidence, options, finishedWaitSeconds = 600, stoppedWaitSeconds = 20 } = request
  const publisher = new BackgroundPublisher(repo, { ...options, onOutcome: describeOutcomes(events, paths) })
  // Better heard now than after hours.
  const early = publishProblem(repo, options).then((problem) => {
    if (problem === null) return
    const message = `nothing can be published as it is: ${problem}; training goes on`
    events.emit({ type: 'publish', status: 'failed', folder: paths.folder, message })
  })
  let ended: { status: RunStatus; step: number } | null = null
  const remove = events.onAny((event) => {
    if (event.type === 'stop') ended = event
    if (event.type !== 'save' || when !== 'every_save') return
    const { checkpoint, step } = event
    publisher.enqueue(checkpoint, { commitTitle: `Step ${step}`, evidence: () => evidence(step) })
  })
  /** Also asked for by a stop while a finished run waits: the second bound is then the shorter one. */
  const finish = async (seconds: number): Promise<void> => {
    const bound = Math.max(0, Math.min(seconds, budget.remainingSeconds - reserveSeconds))
    const message = `waiting for the Hub, ${formatDuration(bound)} at most; everything is saved`
    const wait = { type: 'publish', status: 'waiting', folder: paths.folder, message } as const
    const explain = setTimeout(() => events.emit(wait), silentMilliseconds)
    await publisher.finish(1000 * bound)
    clearTimeout(explain)
  }
  const hurry = (): void => void finish(stoppedWaitSeconds)
  return async () => {
    remove()
    await early
    if (ended !== null) await enqueueFinal(publisher, request, context, ended)
    stop.signal.addEventListener('abort', hurry, { once: true })
    const isDone = ended?.status === 'finished' || ended?.status === 'nothing-new'
    await finish(isDone && stop.requested === null ? finishedWaitSeconds : stoppedWaitSeconds)
    stop.signal.removeEventListener('abort', hurry)
  }
}

/** Writes the final model's card into its folder and publishes that; one of an earlier start has its card already. */
async function enqueueFinal(
  publisher: BackgroundPublisher,
  { repo, evidence }: PublishRequest,
  { paths, events }: Context,
  { status, step }: { readonly status: RunStatus; readonly step: number },
): Promise<void> {
  const folder = paths.finalModel
  const card = join(folder, cardFile)
  try {
    if (status === 'finished') {
      const { config } = await readAdapterConfig(folder)
      await writeFileAtomically(card, formatModelCard({ repo, evidence: await evidence(step), config }))
    } else if (status !== 'nothing-new' || !existsSync(card)) return
    publisher.enqueue(folder, { commitTitle: `Final model, step ${step}` })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    events.emit({ type: 'publish', status: 'failed', folder, message: `the final model is not published: ${reason}` })
  }
}

/** One line for each folder; a fault that stays is told once, and again for the final model. */
function describeOutcomes(events: TrainerEvents, paths: OutputPaths): (outcome: PublishOutcome) => void {
  let told: string | null = null
  return (outcome) => {
    if (outcome.status === 'superseded') return
    const { folder } = outcome
    const isFinal = folder === paths.finalModel
    const name = isFinal ? 'the final model' : basename(folder)
    if (outcome.status === 'published') {
      const { url, commit } = outcome.report
      told = null
      const message = `${name} is published at ${url}${commit === null ? ' (it was there already)' : ''}`
      events.emit({ type: 'publish', status: 'published', folder, message })
      return
    }
    const reason = outcome.reason.replace(/^publishing failed: /, '')
    if (reason === told && !isFinal) return
    told = reason
    const advice = isFinal ? '; run the same command again to try once more' : ''
    events.emit({ type: 'publish', status: 'failed', folder, message: `${name} is not published: ${reason}${advice}` })
  }
}
