import type { Options } from 'tsup'

/** The one tsup configuration of all packages: a package names its entry points, its own dependencies stay external. */
export function packageConfig(entry: Record<string, string>): Options {
  return {
    entry,
    format: 'esm',
    target: 'node20',
    platform: 'node',
    dts: { entry: { index: 'src/index.ts' } },
    sourcemap: true,
    clean: true,
    splitting: true,
    treeshake: true,
    silent: true,
    tsconfig: 'tsconfig.json',
  }
}
