import type { Conversation, Source } from '../conversation.js'
import type { Format, JsonObject } from '../formats/format.js'
import { fixedFormat } from '../formats/reading.js'
import { detectFormat } from '../formats/registry.js'
import type { ChatTokenizer } from '../tokens/chat-tokenizer.js'
import { fitToLength } from '../tokens/fit-to-length.js'
import { trainsAsServed } from '../tokens/serving.js'
import { contentHash, splitPoint } from './fingerprint.js'
import { SIGNATURE_BYTES, signatureOf } from './min-hash.js'
import { normalize } from './normalize.js'
import type { ChunkBuilder } from './processed-chunk.js'
import { Redactor } from './redact.js'
import { formatFor, orRefused } from './record-settings.js'
import type { ProcessSettings, RecordUse } from './record-settings.js'
import { RecordError } from './rules.js'
import { count } from './tally.js'

/** Records as conversations: a row each, or several where a long one is split. */
export class ConversationRows implements RecordUse {
  private readonly tokenizer: ChatTokenizer
  private readonly settings: ProcessSettings
  private readonly format: Format | undefined
  private readonly redactor: Redactor | undefined

  constructor(tokenizer: ChatTokenizer, settings: ProcessSettings) {
    this.tokenizer = tokenizer
    this.settings = settings
    this.format = fixedFormat(settings)
    this.redactor = settings.redaction === undefined ? undefined : new Redactor(settings.redaction)
  }

  add(record: JsonObject, source: Source, out: ChunkBuilder): void {
    const format = formatFor(this.format, () => detectFormat(record), out)
    if (format === null) throw new RecordError('unknown-format')
    for (const draft of format.reformat(record)) this.addConversation({ ...draft, source }, out)
  }

  private addConversation(conversation: Conversation, out: ChunkBuilder): void {
    const { limits, fit, splitSeed, signatures } = this.settings
    const textBesideToolCalls = this.tokenizer.template.textBesideToolCalls
    const { draft, adjustments } = normalize(conversation, { limits, textBesideToolCalls })
    const clean = this.redactor?.redact(draft, out.counts.redacted) ?? draft
    const whole = { ...clean, source: conversation.source }
    const fitted = orRefused(() => fitToLength(this.tokenizer, whole, fit))
    if (fitted.changed === 'dropped') throw new RecordError('too-long')
    if (fitted.examples.length === 0) {
      throw new RecordError(fitted.changed === 'no' ? 'nothing-to-train-on' : 'truncated-away')
    }
    if (!orRefused(() => trainsAsServed(this.tokenizer, whole))) out.counts.servingDiffers++
    for (const adjustment of adjustments) count(out.counts.adjustments, adjustment)
    if (fitted.changed !== 'no') count(out.counts.truncated, fitted.changed)
    const signature = signatures ? signatureOf(clean.turns) : new Uint8Array(SIGNATURE_BYTES)
    out.add(contentHash(clean), signature, splitPoint(clean, splitSeed), fitted.examples)
  }
}
