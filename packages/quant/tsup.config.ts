import { packageConfig } from '../../scripts/package-config.js'

export default packageConfig({ index: 'src/index.ts', 'quant-worker': 'src/quant-worker.ts' })
