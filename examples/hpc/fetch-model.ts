// Downloads a base model into the Hugging Face cache, so that compute nodes find it without internet.
// Usage: node --loader ts-node/esm examples/hpc/fetch-model.ts OWNER/NAME[@REVISION]
import { locateModel } from '@mirastral/models'
import { runMain, UsageError } from '../lib/command-line.js'

await runMain(async () => {
  const model = process.argv[2]
  if (!model) throw new UsageError('fetch-model: needs a folder or owner/name of the Hub')
  const found = await locateModel(model)
  process.stdout.write(`${found.name} is in ${found.folder}${found.commit ? ` (commit ${found.commit})` : ''}\n`)
  return 0
})
