import { cp } from 'node:fs/promises'
import { packageConfig } from '../../scripts/package-config.js'

export default {
  ...packageConfig({ index: 'src/index.ts', 'mirastral-cli': 'src/mirastral-cli.ts' }),
  // The page's files are sent as they are; they lie beside the built modules as they do beside the sources.
  onSuccess: () => cp('src/server/page', 'dist/page', { recursive: true }),
}
