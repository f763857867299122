import { packageConfig } from '../../scripts/package-config.js'

export default packageConfig({
  index: 'src/index.ts',
  'process-worker': 'src/process-worker.ts',
  'ledger-cli': 'src/ledger-cli.ts',
})
