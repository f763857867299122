import { resolveOptions, resolvePairOptions } from './options.js'
import { prepareRows } from './pipeline/prepare-rows.js'
import type { PrepareRequest, Prepared } from './pipeline/prepare-rows.js'
import type { Examples } from './rows/example-rows.js'
import { pairsOf } from './rows/pair-examples.js'
import type { PairExamples } from './rows/pair-examples.js'

export interface PreparedData extends Prepared {
  train: Examples
  eval: Examples
}

export interface PreparedPreferences extends Prepared {
  train: PairExamples
  eval: PairExamples
}

/**
 * Reads conversation files into tokenized train and eval rows. Broken records and files are counted and left out; nothing
 * is written to the ledger until `commit`.
 *
 * @throws DataError for inputs that do not exist, an unusable tokenizer, wrong options, other data than the manifest's, and
 *   (with `strict`) files that cannot be read.
 */
export async function prepareDataset(request: PrepareRequest): Promise<PreparedData> {
  return await prepareRows(request, resolveOptions(request.options ?? {}), false)
}

/**
 * Reads files of preferences (`chosen` and `rejected`) into tokenized train and eval pairs, in everything else like
 * `prepareDataset`. A prompt is always on one side of the split, and duplicates are pairs of the same prompt and answers.
 *
 * Its ledger should be another one than that of `prepareDataset`: a ledger knows files, not what they were used for.
 *
 * @throws DataError as `prepareDataset`, and for a truncation, format or mapping that is not one of pairs.
 */
export async function preparePreferences(request: PrepareRequest): Promise<PreparedPreferences> {
  const rows = await prepareRows(request, resolvePairOptions(request.options ?? {}), true)
  return { ...rows, train: pairsOf(rows.train), eval: pairsOf(rows.eval) }
}
