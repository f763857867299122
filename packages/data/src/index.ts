export { IGNORE_INDEX } from './conversation.js'
export type {
  AssistantTurn,
  Batch,
  Conversation,
  PreferenceConversation,
  Source,
  TokenizedExample,
  TokenizedPair,
  Tool,
  ToolCall,
  ToolTurn,
  Turn,
} from './conversation.js'
export { DataError } from './errors.js'
export type { DataErrorCode } from './errors.js'

export { prepareDataset, preparePreferences } from './prepare.js'
export type { PreparedData, PreparedPreferences } from './prepare.js'
export type { PrepareRequest } from './pipeline/prepare-rows.js'
export type { DataOptions } from './options.js'
export type { DataInput } from './formats/reading.js'
export type { DataManifest } from './pipeline/manifest.js'
export type { RunRecord } from './pipeline/ledger-entries.js'
export { formatReport } from './format-report.js'
export type { DataReport, FileReport, SideReport } from './report.js'
export type { Examples } from './rows/example-rows.js'
export type { PairExamples } from './rows/pair-examples.js'
export { PREFLIGHT_RULES, inspect, preflight } from './preflight.js'
export type { PreflightReport, PreflightRule } from './preflight.js'

export { ConversationReader } from './reader.js'
export type { ReaderOptions } from './reader.js'
export type { Mapping } from './formats/mapping.js'
export type { HubOptions } from './read/hub-dataset.js'
export { ADJUSTMENTS, RULES } from './records/rules.js'
export type { Adjustment, Rule } from './records/rules.js'
export { FILE_PROBLEMS } from './read/file-problems.js'
export type { FileProblem } from './read/file-problems.js'

export { Ledger } from './ledger/ledger.js'
export type { Standing } from './ledger/ledger.js'
export type { LedgerEntry } from './ledger/entry.js'
export { ledgerStatus } from './ledger/status.js'
export type { FileStanding } from './ledger/status.js'
export { importPickle } from './ledger/import-pickle.js'
export type { ImportReport } from './ledger/import-pickle.js'

export { ChatTokenizer } from './tokens/chat-tokenizer.js'
export type { ChatTokenizerOptions, MaskOptions } from './tokens/chat-tokenizer.js'
export type { RenderOptions } from './tokens/chat-template.js'
export type { TemplateRules } from './tokens/choose-template.js'
export { fitToLength } from './tokens/fit-to-length.js'
export type { FitOptions, Fitted, Truncation } from './tokens/fit-to-length.js'
export { encodePair, fitPair } from './tokens/fit-pair.js'
export type { FittedPair, PairFitOptions } from './tokens/fit-pair.js'
export { sampleView, tokenView } from './tokens/token-view.js'

export { collate } from './batches/collate.js'
export type { CollateOptions } from './batches/collate.js'
export { pack } from './batches/pack.js'
export { PackedRows, lengthBuckets } from './batches/packed-rows.js'
export { Sampler } from './batches/sampler.js'
export type { SampledBatch, SamplerCursor, SamplerOptions } from './batches/sampler.js'
export { randperm } from './batches/mersenne-twister.js'
