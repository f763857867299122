import { hubAccess } from '@mirastral/models'
import { formatModelCard } from './card.js'
import { LoraError } from './errors.js'
import type { EvidenceInput } from './evidence.js'
import { HubRefusal, commitFiles, differingFiles, ensureRepository } from './hub-repository.js'
import type { HubTarget } from './hub-repository.js'
import { isHubId } from './model-id.js'
import { planPublish } from './publish-files.js'
import type { PublishPlan } from './publish-files.js'
import { retry, waitOnClock } from './retry.js'
import type { BackOff } from './retry.js'

export interface PublishOptions {
  /** What the model card is written from; without it the folder's README.md is published. */
  readonly evidence?: EvidenceInput
  /** Who may read a repository that is made: its owner (the default) or everyone. */
  readonly visibility?: 'private' | 'public'
  readonly branch?: string
  /** First line of the commit. */
  readonly commitTitle?: string
  /** A token that may write; from HF_TOKEN or the file of `hf auth login` unless given. */
  readonly accessToken?: string
  /** https://huggingface.co or HF_ENDPOINT unless given. */
  readonly hubUrl?: string
  /** Tries and waits; 5 tries, 1 to 30 seconds apart, unless told. */
  readonly backOff?: Partial<BackOff>
  /** Ends the attempt; publishing then throws. */
  readonly signal?: AbortSignal
  readonly fetch?: typeof fetch
}

export interface PublishReport {
  readonly repo: string
  /** Address of the repository. */
  readonly url: string
  /** Whether the repository was made. */
  readonly created: boolean
  /** The commit, or null where the repository already held everything. */
  readonly commit: string | null
  /** Every published file with its size in bytes and SHA-256; `uploaded` if this call changed it. */
  readonly files: readonly { path: string; size: number; sha256: string; uploaded: boolean }[]
  /** Entries of the folder that are not on the list of publishable files. */
  readonly leftOut: readonly string[]
  /** Tries that it took. */
  readonly attempts: number
}

/** Requests other than uploads are answered in this time or tried again, milliseconds. */
const REQUEST_TIMEOUT = 300_000

/**
 * Publishes an adapter folder as a model repository of the Hugging Face Hub: makes the repository (private unless told
 * otherwise), uploads adapter, configuration, tokenizer files and model card in one commit, and compares what the Hub
 * then holds by hash. Files that are not on the list of publishable ones stay here. Doing it again changes nothing and
 * makes no commit. Faults that may pass are tried again, waiting longer each time.
 *
 * @throws LoraError MIRASTRAL_LORA_PUBLISH when the folder, the card or the permissions are at fault (exit code 2), or
 *   the Hub cannot be reached (exit code 1)
 */
export async function publishAdapter(
  folder: string,
  repo: string,
  options: PublishOptions = {},
): Promise<PublishReport> {
  const target = await targetOf(repo, options)
  const { evidence } = options
  const card =
    evidence === undefined
      ? undefined
      : (config: PublishPlan['config']): string => formatModelCard({ repo, evidence, config })
  const plan = await planPublish(folder, card)
  const backOff: BackOff = { tries: 5, first: 1000, longest: 30_000, wait: waitOnClock, ...options.backOff }
  const mayPass = (error: unknown): boolean => error instanceof HubRefusal && error.retryable
  let created = false
  try {
    return await retry(
      async (attempts) => {
        created = (await ensureRepository(target)) || created
        const title = options.commitTitle ?? 'Publish the adapter'
        // From the second try on files go the plain way, in case the first failed because of the fast one.
        const { commit, uploaded } = await upload(target, plan, { title, useXet: attempts === 1 })
        const files = plan.files.map(({ path, size, sha256 }) => ({ path, size, sha256, uploaded: uploaded.has(path) }))
        return { repo, url: `${target.hubUrl}/${repo}`, created, commit, files, leftOut: plan.leftOut, attempts }
      },
      mayPass,
      backOff,
      options.signal,
    )
  } catch (error) {
    if (error instanceof LoraError) throw error
    const exitCode = error instanceof HubRefusal && !error.retryable ? 2 : 1
    const reason = error instanceof Error ? error.message : String(error)
    throw new LoraError('MIRASTRAL_LORA_PUBLISH', `publishing failed: ${reason}`, { exitCode, cause: error })
  }
}

/**
 * What is wrong with a repository's name or the token, before anything is asked of the Hub; null if nothing is. For telling it
 * at the start of what will publish at its end.
 */
export async function publishProblem(repo: string, options: PublishOptions = {}): Promise<string | null> {
  try {
    await targetOf(repo, options)
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** Brings the repository up to date and checks that it is. */
async function upload(
  target: HubTarget,
  { files }: PublishPlan,
  message: { title: string; useXet: boolean },
): Promise<{ commit: string | null; uploaded: Set<string> }> {
  const changed = await differingFiles(target, files, target.branch)
  if (changed.length === 0) return { commit: null, uploaded: new Set() }
  const { oid } = await commitFiles(target, changed, message)
  const wrong = await differingFiles(target, files, oid)
  if (wrong.length > 0) {
    const paths = wrong.map((file) => file.path).join(', ')
    throw new HubRefusal(
      `checking ${target.repo}: the Hub does not hold what was uploaded as ${paths}`,
      true,
      undefined,
    )
  }
  return { commit: oid, uploaded: new Set(changed.map((file) => file.path)) }
}

async function targetOf(repo: string, options: PublishOptions): Promise<HubTarget> {
  if (!isHubId(repo)) {
    throw new LoraError('MIRASTRAL_LORA_PUBLISH', `repository: must be owner/name, got ${JSON.stringify(repo)}`)
  }
  const { token, endpoint } = await hubAccess({
    ...(options.accessToken === undefined ? {} : { token: options.accessToken }),
    ...(options.hubUrl === undefined ? {} : { endpoint: options.hubUrl }),
  })
  if (token === undefined) {
    throw new LoraError(
      'MIRASTRAL_LORA_PUBLISH',
      'publishing needs a token that may write: set HF_TOKEN or run `hf auth login`',
    )
  }
  return {
    repo,
    branch: options.branch ?? 'main',
    hubUrl: endpoint,
    accessToken: token,
    visibility: options.visibility ?? 'private',
    fetch: patientFetch(options.fetch ?? fetch, options.signal),
  }
}

/** A fetch that ends when asked to, and does not wait for ever for an answer to anything but an upload. */
function patientFetch(inner: typeof fetch, signal: AbortSignal | undefined): typeof fetch {
  return (input, init) => {
    const signals = [signal, init?.signal].filter((s) => s instanceof AbortSignal)
    if (init?.method !== 'PUT') signals.push(AbortSignal.timeout(REQUEST_TIMEOUT))
    return inner(input, { ...init, signal: AbortSignal.any(signals) })
  }
}
