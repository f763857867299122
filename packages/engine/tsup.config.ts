import { packageConfig } from '../../scripts/package-config.js'

export default packageConfig({ index: 'src/index.ts', 'ort-worker': 'src/backends/ort/ort-worker.ts' })
