import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ChatTokenizerOptions, Conversation, Tool, ToolCall, Turn } from '@mirastral/data'
import { ChatTokenizer } from '@mirastral/data'
import { afterAll } from 'vitest'

const root = new URL('../../../fixtures/data/', import.meta.url)

export function fixture(path: string): string {
  return fileURLToPath(new URL(path, root))
}

export function golden<T>(name: string): T {
  return JSON.parse(readFileSync(fixture(`goldens/${name}.json`), 'utf8')) as T
}

export function loadTokenizer(name: string, options: ChatTokenizerOptions = {}): Promise<ChatTokenizer> {
  return ChatTokenizer.fromFolder(fixture(`tokenizers/${name}`), options)
}

/** A folder that is removed when the tests of the file are done. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mirastral-data-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A message in the form in which Transformers takes it. */
export interface GoldenMessage {
  role: 'system' | 'user' | 'assistant' | 'tool'
  content: string
  tool_calls?: { id: string; function: { name: string; arguments: ToolCall['arguments'] } }[]
  tool_call_id?: string
}

export interface GoldenTool {
  function: Tool
}

export function conversationOf(messages: readonly GoldenMessage[], tools: readonly GoldenTool[] | null): Conversation {
  const turns = messages.map(({ role, content, tool_calls, tool_call_id }): Turn => {
    if (role === 'tool') return { role, content, ...(tool_call_id === undefined ? {} : { toolCallId: tool_call_id }) }
    if (role !== 'assistant' || tool_calls === undefined) return { role, content }
    return { role, content, toolCalls: tool_calls.map((call) => ({ id: call.id, ...call.function })) }
  })
  const source = { fileHash: '0'.repeat(64), record: 0 }
  return tools === null ? { turns, source } : { turns, tools: tools.map((tool) => tool.function), source }
}

export function chat(...contents: string[]): Conversation {
  const turns = contents.map((content, i): Turn => ({ role: i % 2 === 0 ? 'user' : 'assistant', content }))
  return { turns, source: { fileHash: '0'.repeat(64), record: 0 } }
}
