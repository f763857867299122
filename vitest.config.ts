import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

/** Tests import packages by name; here the name means the sources, so that no build is needed while working. */
const sources = readdirSync(path('packages')).map((name) => ({
  find: new RegExp(`^@mirastral/${name}$`),
  replacement: path(`packages/${name}/src/index.ts`),
}))

const common = { testTimeout: 60_000, hookTimeout: 60_000, pool: 'forks' as const }

const report = process.env.MIRASTRAL_TEST_REPORT

export default defineConfig({
  test: {
    globalSetup: path('scripts/temporary-folder.ts'),
    reporters: report ? ['default', 'json'] : ['default'],
    ...(report ? { outputFile: { json: report } } : {}),
    projects: [
      {
        resolve: { alias: sources },
        test: {
          ...common,
          name: 'src',
          include: ['packages/*/{src,test}/**/*.test.ts', 'examples/**/*.test.ts'],
          exclude: ['**/*.dist.test.ts', '**/node_modules/**'],
        },
      },
      {
        // What needs the built packages: worker threads, command lines, whole scripts.
        test: { ...common, name: 'dist', include: ['packages/*/test/**/*.dist.test.ts', 'examples/**/*.dist.test.ts'] },
      },
    ],
  },
})
