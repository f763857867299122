// @ts-check
/**
 * The one tsup configuration of all packages. A package names its entry points; its own `dependencies` stay external.
 * @param {Record<string, string>} entry output name to source file
 * @returns {import('tsup').Options}
 */
export function packageConfig(entry) {
  return {
    entry,
    format: 'esm',
    target: 'node20',
    platform: 'node',
    dts: true,
    sourcemap: true,
    clean: true,
    splitting: true,
    treeshake: true,
    silent: true,
    tsconfig: 'tsconfig.json',
  }
}
