import type { Rule } from '../records/rules.js'

/** A record as it stands in its file: JSON bytes not yet parsed, a value, or the reason why there is neither. */
export type RawRecord = { bytes: Uint8Array } | { value: unknown } | { rule: Rule }
