import { createHash } from 'node:crypto'
import type { Turn } from '../conversation.js'
import type { ChatTemplate } from './chat-template.js'
import type { ChatTokenizerOptions } from './chat-tokenizer.js'
import { JinjaTemplate } from './jinja-template.js'
import { mistralTemplate } from './mistral-template.js'
import { joinSegments } from './segments.js'
import { specialTokensOf, tokenizerError } from './tokenizer-files.js'
import type { TokenizerFiles } from './tokenizer-files.js'

export type TemplateRules = 'mistral-common' | 'transformers'

const VERSIONS = ['mistral-v3', 'mistral-v3-tekken', 'mistral-v1'] as const

/** Conversations that every template of a format writes alike: without a system prompt, whose place differs. */
const PROBES: readonly (readonly Turn[])[] = [
  [{ role: 'user', content: 'one' }],
  [
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'two' },
    { role: 'user', content: 'three' },
    { role: 'assistant', content: 'four' },
  ],
]

/**
 * The template of a model. One of Mistral's formats is recognised by what the folder's template writes, never by how its
 * source looks.
 */
export function chooseTemplate(
  files: TokenizerFiles,
  { chatTemplate, rules = 'mistral-common' }: ChatTokenizerOptions,
): { template: ChatTemplate; hash: string } {
  const source = chatTemplate ?? files.chatTemplate
  if (source === null) {
    throw tokenizerError('the folder has no chat template; use an instruct model, or give one (chatTemplate)')
  }
  const specials = specialTokensOf(files).map((token) => token.content)
  const jinja = new JinjaTemplate(source, files.config, specials)
  const template = rules === 'transformers' ? jinja : (mistralFormat(files, jinja, specials) ?? jinja)
  const hash = createHash('sha256').update(`${files.hash}\0${template.name}\0${source}`).digest('hex')
  return { template, hash }
}

function mistralFormat(files: TokenizerFiles, jinja: ChatTemplate, specials: readonly string[]): ChatTemplate | null {
  const { bos_token: bos, eos_token: eos } = files.config
  if (bos === undefined || eos === undefined) return null
  for (const version of VERSIONS) {
    if (version !== 'mistral-v1' && !['[INST]', '[/INST]'].every((token) => specials.includes(token))) continue
    const candidate = mistralTemplate(version, bos, eos)
    if (PROBES.every((turns) => tryRender(jinja, turns) === joinSegments(candidate.render(turns, {})))) return candidate
  }
  return null
}

function tryRender(template: ChatTemplate, turns: readonly Turn[]): string | null {
  try {
    return joinSegments(template.render(turns, {}))
  } catch {
    return null
  }
}
