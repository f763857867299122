// @ts-check
// Proves the packed tarballs, not the workspace: packs every package, looks into the tarballs, installs them into a fresh
// project, type-checks an import of each and every `ts` snippet of their READMEs, runs the snippets and starts the bins.
// A snippet that needs a download, or never ends, carries the fence `ts no-run`: it is type-checked only. In the folder
// where snippets run, `path/to/model` and `my-model` are small random models with a tokenizer.
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))
const timeLimit = 300_000
const seconds = () => performance.now() / 1000

/** @param {string} what */
const say = (what) => process.stdout.write(`check-packages: ${seconds().toFixed(0)} s: ${what}\n`)

/**
 * @typedef {Record<string, string>} Ranges
 * @typedef {{ name: string, license?: string, repository?: unknown, engines?: { node?: string }, sideEffects?: boolean,
 *   files?: string[], publishConfig?: { access?: string }, exports?: Record<string, string | Ranges>, bin?: Ranges,
 *   dependencies?: Ranges, devDependencies?: Ranges, peerDependencies?: Ranges, optionalDependencies?: Ranges }} Manifest
 * @typedef {{ source: string, tarball: string, dir: string, files: Set<string>, manifest: Manifest }} Packed
 * @typedef {{ id: string, name: string, line: number, text: string, runs: boolean }} Snippet
 */

/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error))

/**
 * Runs a program to its end.
 * @param {string} file @param {string[]} args @param {{ cwd: string, env?: NodeJS.ProcessEnv }} options
 * @returns {Promise<string>} what it wrote on stdout
 */
async function run(file, args, options) {
  try {
    return (await promisify(execFile)(file, args, { ...options, maxBuffer: 1 << 26, timeout: timeLimit })).stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = /** @type {{ stdout?: string, stderr?: string }} */ (error)
    throw new Error(`${stdout}${stderr}`.trim() || messageOf(error), { cause: error })
  }
}

/** @param {string[]} args @param {string} cwd */
function pnpm(args, cwd) {
  const program = process.env.npm_execpath ?? ''
  if (!/pnpm/.test(basename(program))) throw new Error('start it as `npx -y pnpm@10 run check:packages`')
  return /\.[cm]?js$/.test(program) ? run(process.execPath, [program, ...args], { cwd }) : run(program, args, { cwd })
}

/** @param {string} dir @returns {Manifest} */
const readManifest = (dir) => JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))

/** @param {string} dir @returns {string[]} the files below it, as paths with `/` */
function filesBelow(dir) {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(dir.length + 1)
        .replaceAll('\\', '/'),
    )
}

/**
 * Packs every package of packages/ and unpacks the tarballs again.
 * @param {string} folder @returns {Promise<Packed[]>}
 */
async function pack(folder) {
  const tarballs = join(folder, 'tarballs')
  await pnpm(['-r', '--filter', './packages/*', 'pack', '--pack-destination', tarballs], root)
  return await Promise.all(
    readdirSync(tarballs).map(async (file) => {
      const dir = join(folder, 'unpacked', basename(file, '.tgz'), 'package')
      mkdirSync(dirname(dir), { recursive: true })
      await run('tar', ['-xzf', join(tarballs, file)], { cwd: dirname(dir) })
      const manifest = readManifest(dir)
      const source = join(root, 'packages', manifest.name.replace('@mirastral/', ''))
      return { source, tarball: join(tarballs, file), dir, files: new Set(filesBelow(dir)), manifest }
    }),
  )
}

/** What a published manifest must say. @param {Packed} packed @returns {string[]} */
function manifestProblems({ manifest, files, dir }) {
  /** @type {string[]} */
  const problems = []
  /** @param {boolean} holds @param {string} rule */
  const expect = (holds, rule) => holds || problems.push(`package.json: ${rule}`)
  expect(manifest.license === 'Apache-2.0', '"license" must be Apache-2.0')
  expect(manifest.repository !== undefined, '"repository" is missing')
  expect(manifest.engines?.node !== undefined, '"engines.node" is missing')
  expect(manifest.sideEffects === false, '"sideEffects" must be false')
  expect(manifest.files !== undefined, '"files" is missing')
  expect(manifest.publishConfig?.access === 'public', '"publishConfig.access" must be public')
  expect(!JSON.stringify(manifest).includes('"workspace:'), 'a workspace: range was packed')
  const main = manifest.exports?.['.']
  expect(typeof main === 'object' && Object.keys(main)[0] === 'types', '"exports" must name the types first')
  const exported = Object.values(manifest.exports ?? {}).flatMap((e) => (typeof e === 'string' ? e : Object.values(e)))
  for (const path of [...exported, ...Object.values(manifest.bin ?? {})].map((p) => posix.normalize(p))) {
    expect(files.has(path), `names ${path}, which is not in the tarball`)
  }
  for (const path of Object.values(manifest.bin ?? {}).filter((p) => existsSync(join(dir, p)))) {
    const isProgram = readFileSync(join(dir, path), 'utf8').startsWith('#!/usr/bin/env node\n')
    expect(isProgram, `the bin ${path} must begin with #!/usr/bin/env node`)
    expect(process.platform === 'win32' || (statSync(join(dir, path)).mode & 0o111) !== 0, `${path} is not executable`)
  }
  return problems
}

/** What a tarball must and must not hold. @param {Packed} packed @returns {string[]} */
function fileProblems({ source, dir, files }) {
  // What lies in src and is no TypeScript (CUDA kernels, the chat page) is read at run time.
  const readAtRunTime = filesBelow(join(source, 'src')).filter((file) => !file.endsWith('.ts'))
  const names = new Set([...files].map((file) => posix.basename(file)))
  const wanted = ['package.json', 'README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts']
  // Worker threads and the like: the bundle looks for them beside itself.
  for (const script of [...files].filter((file) => /^dist\/.*\.js$/.test(file))) {
    const beside = readFileSync(join(dir, script), 'utf8').matchAll(/new URL\("(\.[^"]+\.\w+)", import\.meta\.url\)/g)
    wanted.push(...[...beside].map(([, path]) => posix.join(posix.dirname(script), path)))
  }
  const unwanted = /\.test\.[jt]s$|(^|\/)(tests?|fixtures|evaluation|node_modules)\/|(^|\/)\.[^/]+$|\.tgz$/
  return [
    ...wanted.filter((file) => !files.has(file)).map((file) => `${file} is missing`),
    ...readAtRunTime.filter((file) => !names.has(posix.basename(file))).map((file) => `src/${file} is missing`),
    ...[...files].filter((file) => unwanted.test(file)).map((file) => `${file} should not be packed`),
  ]
}

/** The packages that a module imports. @param {string} text @returns {string[]} */
function packageNames(text) {
  return ts
    .preProcessFile(text)
    .importedFiles.map(({ fileName }) => fileName)
    .filter((name) => !name.startsWith('.') && !isBuiltin(name))
    .map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/'))
}

/** Imports and declared dependencies must be the same set. @param {Packed} packed @returns {string[]} */
function dependencyProblems({ dir, files, manifest }) {
  /** @type {Map<string, string>} */
  const imported = new Map()
  for (const file of [...files].filter((f) => /^dist\/.*\.(js|d\.ts)$/.test(f))) {
    for (const name of packageNames(readFileSync(join(dir, file), 'utf8'))) imported.set(name, file)
  }
  const { dependencies, optionalDependencies, peerDependencies } = manifest
  const declared = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
  return [
    ...[...imported].filter(([name]) => !declared.includes(name)).map(([n, f]) => `${f} imports ${n}, undeclared`),
    ...declared.filter((name) => !imported.has(name)).map((name) => `package.json declares ${name}, never imported`),
  ]
}

/** The `ts` fences of a packed README. @param {Packed} packed @returns {Snippet[]} */
function snippetsOf({ dir, manifest }) {
  const name = manifest.name.replace('@mirastral/', '')
  const lines = readFileSync(join(dir, 'README.md'), 'utf8').split('\n')
  /** @type {Snippet[]} */
  const snippets = []
  lines.forEach((line, start) => {
    const fence = /^```(?:ts|typescript)\b(.*)$/.exec(line)
    if (fence === null) return
    const end = lines.indexOf('```', start)
    const text = `${lines.slice(start + 1, end).join('\n')}\nexport {}\n`
    const runs = !fence[1].includes('no-run')
    snippets.push({ id: `${name}-${snippets.length + 1}`, name, line: start + 1, text, runs })
  })
  return snippets
}

/** What a README tells its reader to install. @param {Packed} packed @returns {string[]} */
function installLine({ dir }) {
  const lines = readFileSync(join(dir, 'README.md'), 'utf8').matchAll(/^npm install (.+)$/gm)
  return [...lines].flatMap(([, names]) => names.trim().split(/\s+/))
}

/** A README has a snippet, and its snippets import only what it says to install. @param {Packed} packed */
function readmeProblems(packed) {
  const named = installLine(packed)
  const snippets = snippetsOf(packed)
  return [
    ...(snippets.length === 0 ? ['README.md has no ts snippet'] : []),
    ...snippets.flatMap(({ line, text }) =>
      packageNames(text)
        .filter((name) => !named.includes(name))
        .map((name) => `README.md:${line} imports ${name}, which no "npm install" line names`),
    ),
  ]
}

/** @param {string} project @param {Packed[]} packages */
async function install(project, packages) {
  const { devDependencies = {} } = readManifest(root)
  const tarballs = Object.fromEntries(packages.map((p) => [p.manifest.name, `file:${p.tarball}`]))
  /** @type {Ranges} */
  const ranges = Object.assign({}, ...packages.map(({ source }) => readManifest(source).devDependencies))
  Object.assign(ranges, ...packages.map(({ manifest }) => manifest.dependencies), tarballs)
  const wanted = packages.flatMap((packed) => [packed.manifest.name, ...installLine(packed)])
  const manifest = {
    name: 'fresh-project',
    private: true,
    type: 'module',
    dependencies: Object.fromEntries(wanted.map((name) => [name, ranges[name] ?? 'latest'])),
    devDependencies: { '@types/node': devDependencies['@types/node'], typescript: devDependencies.typescript },
    pnpm: { overrides: tarballs },
  }
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), JSON.stringify(manifest))
  await pnpm(
    ['install', '--prefer-offline', '--ignore-scripts', '--ignore-workspace', '--reporter=append-only'],
    project,
  )
}

const prepareText = `import { writeRandomModel } from '@mirastral/models'
const sizes = { vocab_size: 2048, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2 }
const config = { model_type: 'mistral', ...sizes, num_attention_heads: 4, num_key_value_heads: 2 }
for (const folder of ['path/to/model', 'my-model']) await writeRandomModel(folder, config, { seed: 1 })
`

/** What a package does in its built form only: worker threads, and files that lie beside the bundle. */
const builtText = `import { writeFile } from 'node:fs/promises'
import { prepareDataset } from '@mirastral/data'
import { loadPageAssets } from '@mirastral/infer'
import { QuantPool } from '@mirastral/quant'
await writeFile('talk.jsonl', '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}')
const data = await prepareDataset({ inputs: ['talk.jsonl'], tokenizer: 'path/to/model', options: { threads: 2 } })
data.close()
if (data.report.totals.used !== 1) throw new Error('data: a record was lost')
const page = await loadPageAssets()
if (!page.html.includes('<html') || page.files.size < 3) throw new Error('infer: the chat page is incomplete')
const pool = QuantPool.start({ threads: 2 })
const tensor = await pool.quantize(new Float32Array(1 << 16).fill(0.5), 'nf4', { shape: [256, 256] })
await pool.close()
if (tensor.codes.length !== 1 << 15) throw new Error('quant: codes were lost')
`

/**
 * Type-checks and translates the snippets, and an import of every package, as a user with strict settings would.
 * @param {string} project @param {Packed[]} packages @param {Snippet[]} snippets @returns {Promise<string[]>} errors
 */
async function compile(project, packages, snippets) {
  const imports = packages.map((p, i) => `import * as p${i} from '${p.manifest.name}'\n`).join('')
  const checks = packages.map((_, i) => `if (Object.keys(p${i}).length === 0) throw new Error('p${i} is empty')\n`)
  mkdirSync(join(project, 'src'))
  writeFileSync(join(project, 'src', 'imports.ts'), imports + checks.join(''))
  writeFileSync(join(project, 'src', 'prepare.ts'), prepareText)
  writeFileSync(join(project, 'src', 'built.ts'), builtText)
  for (const { id, text } of snippets) writeFileSync(join(project, 'src', `${id}.ts`), text)
  const language = { module: 'NodeNext', moduleResolution: 'NodeNext', target: 'ES2022', lib: ['ES2023'] }
  const compilerOptions = { ...language, strict: true, skipLibCheck: false, types: ['node'], outDir: 'out' }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }))
  // All libraries are checked, ours and theirs, so that ours cannot hide behind skipLibCheck; only ours have to be right
  // (hono's declarations want those of a browser).
  const tsc = [join('node_modules', 'typescript', 'bin', 'tsc'), '--pretty', 'false']
  /** @type {string} */
  const output = await run(process.execPath, tsc, { cwd: project }).catch(messageOf)
  const ours = output
    .split('\n')
    .filter((line) => /error TS/.test(line) && !/^node_modules\/(?!.*@mirastral)/.test(line))
  return ours.map((line) =>
    line.replace(/^src\/([^.]+)\.ts\((\d+),/, (all, id, row) => {
      const snippet = snippets.find((s) => s.id === id)
      return snippet === undefined ? all : `packages/${snippet.name}/README.md(${snippet.line + Number(row)},`
    }),
  )
}

/** @param {string} project @param {string} id @param {string} name of the folder to run in */
function runScript(project, id, name) {
  const cwd = join(project, name)
  mkdirSync(cwd, { recursive: true })
  const env = { ...process.env, HF_HUB_OFFLINE: '1', MIRASTRAL_CACHE: join(project, 'cache') }
  return run(process.execPath, [join(project, 'out', `${id}.js`)], { cwd, env })
}

/** @param {string} project @param {Packed[]} packages @param {Snippet[]} snippets @returns {Promise<string[]>} */
async function runAll(project, packages, snippets) {
  /** @type {string[]} */
  const problems = []
  /** @param {string} what @param {() => Promise<unknown>} work */
  const attempt = async (what, work) => {
    const begun = seconds()
    try {
      await work()
      process.stdout.write(`  ${what}: ${(seconds() - begun).toFixed(1)} s\n`)
    } catch (error) {
      problems.push(`${what}:\n${messageOf(error).split('\n').slice(-20).join('\n')}`)
    }
  }
  await attempt('import of every package', () => runScript(project, 'imports', 'run'))
  for (const model of ['path/to/model', 'my-model']) {
    cpSync(join(root, 'examples', 'tokenizer'), join(project, 'run', model), { recursive: true })
  }
  await attempt('model for the snippets', () => runScript(project, 'prepare', 'run'))
  await attempt('worker threads and page', () => runScript(project, 'built', 'run'))
  for (const { id, name, line } of snippets.filter(({ runs }) => runs)) {
    await attempt(`packages/${name}/README.md:${line}`, () => runScript(project, id, 'run'))
  }
  for (const name of packages.flatMap(({ manifest }) => Object.keys(manifest.bin ?? {}))) {
    await attempt(`${name} --help`, async () => {
      const text = await pnpm(['exec', name, '--help'], project)
      if (!text.includes(name)) throw new Error('its help does not name it')
    })
  }
  return problems
}

/** @param {string} folder for everything that is made @returns {Promise<string[]>} all problems found */
async function check(folder) {
  say('building and packing')
  await run(process.execPath, [join(root, 'scripts', 'build.mjs')], { cwd: root })
  const packages = await pack(folder)
  const problems = packages.flatMap((packed) =>
    [manifestProblems, fileProblems, dependencyProblems, readmeProblems].flatMap((rule) =>
      rule(packed).map((problem) => `${packed.manifest.name}: ${problem}`),
    ),
  )
  say(`installing ${packages.length} tarballs`)
  const project = join(folder, 'project')
  await install(project, packages)
  const snippets = packages.flatMap(snippetsOf)
  say(`type-checking ${snippets.length} snippets`)
  problems.push(...(await compile(project, packages, snippets)))
  say('running them')
  return [...problems, ...(await runAll(project, packages, snippets))]
}

const folder = await mkdtemp(join(tmpdir(), 'mirastral-packages-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.on(signal, () => process.exit(1))
try {
  const problems = await check(folder)
  for (const problem of problems) process.stderr.write(`${problem}\n`)
  say(`${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
} catch (error) {
  process.stderr.write(`check-packages: ${messageOf(error)}\n`)
  process.exitCode = 1
}
