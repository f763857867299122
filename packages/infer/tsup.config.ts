import { packageConfig } from '../../scripts/tsup.mjs'

export default packageConfig({ index: 'src/index.ts' })
