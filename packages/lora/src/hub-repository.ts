import type { PublishFile } from './publish-files.js'
import { LoraError } from './errors.js'

/** Where and as whom to publish. */
export interface HubTarget {
  /** `owner/name` of a model repository. */
  readonly repo: string
  readonly branch: string
  readonly hubUrl: string
  readonly accessToken: string
  readonly visibility: 'private' | 'public'
  readonly fetch: typeof fetch
}

/** What the Hub refused, or could not do. */
export class HubRefusal extends Error {
  override readonly name = 'HubRefusal'

  constructor(
    message: string,
    readonly retryable: boolean,
    cause: unknown,
  ) {
    super(message, { cause })
  }
}

/** Statuses after which the same request may succeed: time-outs, conflicts with another commit, limits, server faults. */
const passing = new Set([408, 409, 412, 423, 425, 429])

/** The library's errors name full addresses, which may be signed: only status and host are passed on. */
function refusal(action: string, error: unknown): HubRefusal {
  if (error instanceof HubRefusal || error instanceof LoraError) throw error
  const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : undefined
  if (status === undefined) {
    return new HubRefusal(`${action}: ${reasonOf(error)}`, true, error)
  }
  const advice: Readonly<Record<number, string>> = {
    401: 'the access token is not valid',
    403: 'the access token may not write there',
    404: 'not found',
  }
  const why = advice[status] ?? 'the server refused'
  return new HubRefusal(`${action}: ${why} (status ${status})`, status >= 500 || passing.has(status), error)
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  // Node's fetch says no more than "fetch failed"; the system's code is in its cause.
  if (error.message === 'fetch failed') {
    const { cause } = error
    const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? ` (${cause.code})` : ''
    return `the Hub cannot be reached${code}`
  }
  const reason = error.message
    .split(/https?:/)[0]
    .trim()
    .replace(/[.\s]+URL:?$/, '')
  return reason === '' ? 'no answer' : reason
}

async function asking<T>(action: string, request: () => Promise<T>): Promise<T> {
  try {
    return await request()
  } catch (error) {
    throw refusal(action, error)
  }
}

const hub = () => import('@huggingface/hub')

const credentials = ({ repo, hubUrl, accessToken, fetch }: HubTarget) => ({ repo, hubUrl, accessToken, fetch })

/**
 * Makes the repository if there is none; whether it was made. A repository that everyone can read is refused unless
 * `visibility` is `public`.
 */
export async function ensureRepository(target: HubTarget): Promise<boolean> {
  const { createRepo, modelInfo } = await hub()
  const { repo, visibility, hubUrl, accessToken, fetch } = target
  const info = await asking(`reading ${repo}`, async () => {
    try {
      return await modelInfo({ name: repo, hubUrl, accessToken, fetch })
    } catch (error) {
      if (error instanceof Error && 'statusCode' in error && error.statusCode === 404) return null
      throw error
    }
  })
  if (info === null) {
    await asking(`creating ${repo}`, () => createRepo({ ...credentials(target), visibility }))
    return true
  }
  // The library maps the answer's "private"; a server that leaves it out is taken to be open.
  if (visibility === 'private' && (info.private as unknown) !== true) {
    throw new LoraError(
      'MIRASTRAL_LORA_PUBLISH',
      `${repo}: exists and is public; make it private, or publish with visibility "public"`,
    )
  }
  return false
}

/** The files whose content in the repository is not what it should be, at a branch or commit. */
export async function differingFiles(
  target: HubTarget,
  files: readonly PublishFile[],
  revision: string,
): Promise<PublishFile[]> {
  const { pathsInfo } = await hub()
  const infos = await asking(`reading the files of ${target.repo}`, () =>
    pathsInfo({ ...credentials(target), paths: files.map((f) => f.path), revision }),
  )
  const known = new Map(infos.map((info) => [info.path, info]))
  return files.filter((file) => {
    const info = known.get(file.path)
    if (info === undefined) return true
    return info.lfs === undefined ? info.oid !== file.gitOid : info.lfs.oid !== file.sha256
  })
}

/** Uploads files in one commit; its id and address. */
export async function commitFiles(
  target: HubTarget,
  files: readonly PublishFile[],
  message: { readonly title: string; readonly useXet: boolean },
): Promise<{ oid: string; url: string }> {
  const { commit } = await hub()
  const output = await asking(`uploading to ${target.repo}`, () =>
    commit({
      ...credentials(target),
      branch: target.branch,
      title: message.title,
      useXet: message.useXet,
      operations: files.map(({ path, content }) => ({ operation: 'addOrUpdate' as const, path, content })),
    }),
  )
  if (output === undefined)
    throw new HubRefusal(`uploading to ${target.repo}: the server named no commit`, true, undefined)
  return output.commit
}
