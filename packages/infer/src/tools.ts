import type { Tool } from '@mirastral/data'
import { z } from 'zod'
import { InferError } from './errors.js'

/** What a tool gave back: text for the model. `ok` is false when it failed. */
export interface ToolOutcome {
  readonly ok: boolean
  readonly content: string
}

/** A tool with its types erased, as the chat uses it. */
export interface ChatTool {
  /** The tool in the model's format. */
  readonly tool: Tool
  /**
   * Never throws because of the arguments or the tool itself: its errors are outcomes, for the model to react to. Throws
   * the signal's reason when `signal` aborts.
   */
  call(args: Readonly<Record<string, unknown>>, signal?: AbortSignal): Promise<ToolOutcome>
}

export interface ToolDefinition<Schema extends z.ZodObject> {
  /** 1 to 64 letters, digits, `_` or `-`. */
  readonly name: string
  readonly description?: string
  readonly parameters: Schema
  /** After this the model is told that the tool took too long. Default 30 seconds. */
  readonly timeoutMs?: number
  /** Does the work. A text is given to the model as it is, anything else as JSON. */
  run(args: z.output<Schema>, context: { readonly signal: AbortSignal }): unknown
}

const defaultTimeoutMs = 30_000
/** Longer results are cut: they would push the conversation out of the context window. */
const maxResultLength = 16_000

/** Checks a tool and turns its zod schema into the JSON schema that the model sees. Throws `InferError`. */
export function defineTool<Schema extends z.ZodObject>(definition: ToolDefinition<Schema>): ChatTool {
  const { name, description, parameters, timeoutMs = defaultTimeoutMs } = definition
  if (!/^[a-zA-Z0-9_-]{1,64}$/.test(name)) {
    const message = 'defineTool: a name must be 1 to 64 letters, digits, _ or -'
    throw new InferError('MIRASTRAL_INFER_TOOL', `${message}, got ${JSON.stringify(name)}`)
  }
  const tool = {
    name,
    ...(description === undefined ? {} : { description }),
    parameters: toJsonSchema(name, parameters),
  }
  return {
    tool,
    async call(args, signal) {
      const parsed = await parameters.safeParseAsync(args)
      if (!parsed.success) return failure(`the arguments are not valid: ${problemsOf(parsed.error)}`)
      return runWithin(timeoutMs, signal, (inner) => definition.run(parsed.data, { signal: inner }))
    },
  }
}

function toJsonSchema(name: string, schema: z.ZodType): Record<string, unknown> {
  try {
    const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', target: 'draft-2020-12' })
    return rest
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const message = `defineTool: the parameters of ${name} have no JSON schema: ${reason}`
    throw new InferError('MIRASTRAL_INFER_TOOL', message, { cause: error })
  }
}

const problemsOf = (error: z.ZodError): string =>
  error.issues.map(({ path, message }) => `${path.join('.') || 'arguments'}: ${message}`).join('; ')

async function runWithin(
  timeoutMs: number,
  outer: AbortSignal | undefined,
  run: (signal: AbortSignal) => unknown,
): Promise<ToolOutcome> {
  outer?.throwIfAborted()
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = outer === undefined ? timeout : AbortSignal.any([outer, timeout])
  try {
    const result = await Promise.race([Promise.resolve().then(() => run(signal)), rejectionOf(signal)])
    return { ok: true, content: resultText(result) }
  } catch (error) {
    outer?.throwIfAborted()
    if (timeout.aborted) return failure(`the tool did not answer within ${timeoutMs / 1000} seconds`)
    return failure(error instanceof Error ? error.message : 'the tool failed')
  }
}

/** A tool that does not look at its signal must not keep the person waiting. */
function rejectionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
  })
}

const failure = (error: string): ToolOutcome => ({ ok: false, content: JSON.stringify({ error: shortened(error) }) })

function resultText(result: unknown): string {
  return shortened(typeof result === 'string' ? result : (JSON.stringify(result) ?? 'null'))
}

function shortened(text: string): string {
  if (text.length <= maxResultLength) return text
  const cut = text.slice(0, maxResultLength).replace(/[\uD800-\uDBFF]$/, '')
  return `${cut} ... (cut: ${text.length} characters in all)`
}

/** The tools by name. Throws `InferError` when two have the same. */
export function toolsByName(tools: readonly ChatTool[]): ReadonlyMap<string, ChatTool> {
  const byName = new Map<string, ChatTool>()
  for (const tool of tools) {
    if (byName.has(tool.tool.name)) {
      throw new InferError('MIRASTRAL_INFER_TOOL', `tools: a name may be used once, got ${tool.tool.name} twice`)
    }
    byName.set(tool.tool.name, tool)
  }
  return byName
}
