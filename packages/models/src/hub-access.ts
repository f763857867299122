import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { ModelError, reasonOf } from './errors.js'

/** Where the Hub is and who asks: every field that is absent comes from the environment, as in Python's huggingface_hub. */
export interface HubOptions {
  /** Default: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that `hf auth login` writes. Never shown. */
  token?: string
  /** Base address; default HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string
  /** Cache folder, shared with Python; default HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. */
  cacheDir?: string
  /** Use the cache only; default HF_HUB_OFFLINE. */
  offline?: boolean
  /** Called as bytes arrive: of all files together. */
  onProgress?: (progress: DownloadProgress) => void
  /** Ends a download early; what has arrived is kept for the next call. The call throws the signal's reason. */
  signal?: AbortSignal
  /** Milliseconds before a broken download is taken up again, doubling each of four times; default 500. */
  retryDelay?: number
}

export interface DownloadProgress {
  readonly file: string
  readonly receivedBytes: number
  readonly totalBytes: number
}

/** The options with the environment's values filled in. */
export interface HubAccess {
  readonly token: string | undefined
  readonly endpoint: string
  readonly cacheDir: string
  readonly offline: boolean
}

const truthy = new Set(['1', 'ON', 'YES', 'TRUE'])

function huggingFaceHome(env: NodeJS.ProcessEnv): string {
  return env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface')
}

async function tokenFrom(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const given = env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN
  if (given?.trim()) return given.trim()
  const path = env.HF_TOKEN_PATH ?? join(huggingFaceHome(env), 'token')
  try {
    return (await readFile(path, 'utf8')).trim() || undefined
  } catch {
    // No token file means an anonymous visit, which is enough for public models.
    return undefined
  }
}

/**
 * Fills in the environment's values (HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE).
 * Throws ModelError (kind `option`) for a token that is not one, or an address that is not one.
 */
export async function hubAccess(options: HubOptions = {}, env: NodeJS.ProcessEnv = process.env): Promise<HubAccess> {
  const token = options.token ?? (await tokenFrom(env))
  if (token !== undefined && !token.startsWith('hf_')) {
    throw new ModelError(
      'option',
      'Hugging Face token: must start with hf_; check HF_TOKEN or run `hf auth login` again',
    )
  }
  const endpoint = (options.endpoint ?? env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '')
  try {
    new URL(endpoint)
  } catch (error) {
    throw new ModelError('option', `HF_ENDPOINT: must be an address like https://huggingface.co, got ${endpoint}`, [], {
      cause: error,
    })
  }
  return {
    token,
    endpoint,
    cacheDir: options.cacheDir ?? env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(huggingFaceHome(env), 'hub'),
    offline: options.offline ?? truthy.has((env.HF_HUB_OFFLINE ?? '').toUpperCase()),
  }
}

/** What the Hub answered when it did not give what was asked for. */
export interface HubRefusal {
  readonly status: number
  /** `X-Error-Code`: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo, or none. */
  readonly code: string | null
}

/** One line that says what to do about a refusal. */
export function refusalError(
  repo: string,
  revision: string,
  refusal: HubRefusal,
  access: HubAccess,
  cause?: unknown,
): ModelError {
  const { status, code } = refusal
  const options = { cause }
  const page = `${access.endpoint}/${repo}`
  if (code === 'GatedRepo' || status === 403) {
    const rule = access.token
      ? `the account of this token has not been given access; ask for it at ${page}`
      : `its authors give access on request; ask for it at ${page}, then set HF_TOKEN or run \`hf auth login\``
    return new ModelError('repository', `${repo}: is gated: ${rule}`, [], options)
  }
  if (code === 'RevisionNotFound') {
    return new ModelError('repository', `${repo}: has no revision ${revision}; see ${page}/commits/main`, [], options)
  }
  if (status === 401 && access.token && code !== 'RepoNotFound') {
    return new ModelError(
      'repository',
      `${repo}: the Hub did not accept the token; check HF_TOKEN or run \`hf auth login\` again`,
      [],
      options,
    )
  }
  if (status === 401 || status === 404) {
    const rule = access.token ? 'or this token may not see it' : 'or it is private: set HF_TOKEN or run `hf auth login`'
    return new ModelError('repository', `${repo}: there is no such model on ${access.endpoint}, ${rule}`, [], options)
  }
  return new ModelError('network', `${repo}: the Hub answered with status ${status}; try again later`, [], options)
}

/** A connection that could not be made or broke off. */
export function networkError(repo: string, access: HubAccess, error: unknown): ModelError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const reason = reasonOf(cause) || 'no connection'
  return new ModelError(
    'network',
    `${repo}: cannot reach ${access.endpoint} (${reason}); check the connection and try again`,
    [],
    {
      cause: error,
    },
  )
}
