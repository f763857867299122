import type { PreferenceConversation, PreferenceDraft, Source } from '../conversation.js'
import type { JsonObject, PairFormat } from '../formats/format.js'
import { fixedPairFormat } from '../formats/reading.js'
import { detectPairFormat } from '../formats/registry.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { fitPair } from '../tokens/fit-pair.js'
import type { PairFitOptions } from '../tokens/fit-pair.js'
import { trainsAsServed } from '../tokens/serving.js'
import { isSameAnswer, pairHash, splitPoint } from './fingerprint.js'
import { SIGNATURE_BYTES, signatureOfPair } from './min-hash.js'
import { normalizePair } from './normalize-pair.js'
import type { ChunkBuilder } from './processed-chunk.js'
import { Redactor } from './redact.js'
import { formatFor, orRefused } from './record-settings.js'
import type { ProcessSettings, RecordUse } from './record-settings.js'
import { RecordError } from './rules.js'
import { count } from './tally.js'
import type { Tally } from './tally.js'

/** Records as preference pairs: two rows each, the chosen one and the rejected one. */
export class PairRows implements RecordUse {
  private readonly tokenizer: ChatTokenizer
  private readonly settings: ProcessSettings
  private readonly format: PairFormat | undefined
  private readonly redactor: Redactor | undefined

  constructor(tokenizer: ChatTokenizer, settings: ProcessSettings) {
    this.tokenizer = tokenizer
    this.settings = settings
    this.format = fixedPairFormat(settings)
    this.redactor = settings.redaction === undefined ? undefined : new Redactor(settings.redaction)
  }

  add(record: JsonObject, source: Source, out: ChunkBuilder): void {
    const format = formatFor(this.format, () => detectPairFormat(record), out)
    if (format === null) throw new RecordError('not-a-pair')
    for (const draft of format.pairs(record)) this.addPair({ ...draft, source }, out)
  }

  private addPair(pair: PreferenceConversation, out: ChunkBuilder): void {
    const { limits, splitSeed, signatures } = this.settings
    const textBesideToolCalls = this.tokenizer.template.textBesideToolCalls
    const { draft, adjustments } = normalizePair(pair, { limits, textBesideToolCalls })
    const clean = this.redactor === undefined ? draft : redactPair(this.redactor, draft, out.counts.redacted)
    if (isSameAnswer(clean.chosen, clean.rejected)) throw new RecordError('same-answers')
    const whole = { ...clean, source: pair.source }
    const fitted = orRefused(() => fitPair(this.tokenizer, whole, this.fit))
    if (fitted.changed === 'dropped') throw new RecordError('too-long')
    if (fitted.pair === null) throw new RecordError(fitted.changed === 'no' ? 'nothing-to-train-on' : 'truncated-away')
    if (!orRefused(() => this.isServedSo(whole))) out.counts.servingDiffers++
    for (const adjustment of adjustments) count(out.counts.adjustments, adjustment)
    if (fitted.changed !== 'no') count(out.counts.truncated, fitted.changed)
    const signature = signatures ? signatureOfPair(clean) : new Uint8Array(SIGNATURE_BYTES)
    const rows = [fitted.pair.chosen, fitted.pair.rejected]
    out.add(pairHash(clean), signature, splitPoint({ turns: clean.prompt }, splitSeed), rows)
  }

  private get fit(): PairFitOptions {
    const { truncation = 'left', ...rest } = this.settings.fit
    return { ...rest, truncation: truncation === 'split' ? 'left' : truncation }
  }

  private isServedSo({ prompt, chosen, rejected, ...rest }: PreferenceConversation): boolean {
    return [chosen, rejected].every((answer) =>
      trainsAsServed(this.tokenizer, { ...rest, turns: [...prompt, ...answer] }),
    )
  }
}

function redactPair(redactor: Redactor, draft: PreferenceDraft, counts: Tally): PreferenceDraft {
  const { prompt, chosen, rejected, tools } = draft
  const turns = [...prompt, ...chosen, ...rejected]
  const clean = redactor.redact(tools === undefined ? { turns } : { turns, tools }, counts)
  const end = prompt.length + chosen.length
  return {
    prompt: clean.turns.slice(0, prompt.length),
    chosen: clean.turns.slice(prompt.length, end),
    rejected: clean.turns.slice(end),
    ...(clean.tools === undefined ? {} : { tools: clean.tools }),
  }
}
