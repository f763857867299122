import type { Tool } from '@mirastral/data'
import { choice, empty, optional, rule, sequence, text } from './grammar.js'
import type { Grammar, GrammarRules } from './grammar.js'
import { baseRules, jsonArray, jsonObject } from './json-grammar.js'
import { jsonSchemaGrammar } from './json-schema.js'

/**
 * `[{"name": ..., "arguments": ...}, ...]` with one to `maxCalls` calls of the tools, their arguments valid under the tools'
 * parameter schemas, as Mistral's version 3 format writes them; after the text `[TOOL_CALLS]` where that is the marker.
 * Throws `InferError` for a schema that cannot be enforced.
 */
export function toolCallsGrammar(
  tools: readonly Tool[],
  { maxCalls, marker }: { readonly maxCalls: number; readonly marker: 'control' | 'text' },
): GrammarRules {
  const rules = baseRules()
  const define = (body: Grammar): Grammar => {
    const name = `call ${rules.size}`
    rules.set(name, body)
    return rule(name)
  }
  const calls = tools.map((tool, i) => {
    const parameters = jsonSchemaGrammar(tool.parameters, `tool ${i} `)
    for (const [name, body] of parameters.rules) rules.set(name, body)
    const members = [
      { name: 'name', value: text(JSON.stringify(tool.name)), required: true },
      { name: 'arguments', value: define(parameters.start), required: true },
    ]
    return jsonObject(members, define)
  })
  const list = jsonArray(define(choice(...calls)), 1, maxCalls)
  return { start: sequence(marker === 'text' ? text('[TOOL_CALLS]') : empty, optional(text(' ')), list), rules }
}
