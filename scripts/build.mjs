// @ts-check
// Builds every package in dependency order. A package is skipped when the hash of its sources, of its configuration
// and of the packages it imports is the one its dist/ was built from, so a second run takes no time.
import { createHash } from 'node:crypto'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const packagesDir = join(root, 'packages')
const shared = ['tsconfig.base.json', 'scripts/package-config.ts', 'pnpm-lock.yaml'].map((f) => join(root, f))
const run = promisify(execFile)

/** @typedef {{ name: string, dir: string, dependencies: string[] }} Package */

/** @returns {Package[]} */
function readPackages() {
  return readdirSync(packagesDir)
    .filter((name) => existsSync(join(packagesDir, name, 'package.json')))
    .map((name) => {
      const dir = join(packagesDir, name)
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
      const dependencies = Object.keys(manifest.dependencies ?? {}).filter((d) => d.startsWith('@mirastral/'))
      return { name: manifest.name, dir, dependencies }
    })
}

/** @param {string} dir @returns {string[]} */
function sourceFiles(dir) {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** @param {Package} pkg @param {Map<string, string>} hashes of the packages already built */
function hashOf(pkg, hashes) {
  const hash = createHash('sha256')
  const own = ['package.json', 'tsconfig.json', 'tsup.config.ts'].map((f) => join(pkg.dir, f))
  for (const file of [...shared, ...own, ...sourceFiles(join(pkg.dir, 'src'))]) {
    hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0')
  }
  for (const dependency of pkg.dependencies) hash.update(hashes.get(dependency) ?? '')
  return hash.digest('hex')
}

/** @param {Package} pkg @param {Map<string, string>} hashes @returns {Promise<void>} */
async function build(pkg, hashes) {
  const hash = hashOf(pkg, hashes)
  hashes.set(pkg.name, hash)
  const stamp = join(pkg.dir, 'dist', '.built-from')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return
  process.stdout.write(`build ${pkg.name}\n`)
  const tsup = join(root, 'node_modules', 'tsup', 'dist', 'cli-default.js')
  try {
    await run(process.execPath, [tsup], { cwd: pkg.dir, maxBuffer: 1 << 26 })
  } catch (error) {
    const { stdout = '', stderr = '' } = /** @type {{ stdout?: string, stderr?: string }} */ (error)
    throw new Error(`build of ${pkg.name} failed\n${stdout}${stderr}`, { cause: error })
  }
  writeFileSync(stamp, hash)
}

const lock = join(root, 'node_modules', '.build.lock')

/** Two builds at once would delete each other's dist/: the second waits until the first, or its process, has ended. */
async function acquireLock() {
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      process.once('exit', () => rmSync(lock, { force: true }))
      return
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    }
    if (!isRunning(Number(readFileSync(lock, { encoding: 'utf8', flag: 'a+' })))) rmSync(lock, { force: true })
    else await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

/** @param {number} pid */
function isRunning(pid) {
  try {
    return pid > 0 && process.kill(pid, 0)
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

await acquireLock()
const pending = new Set(readPackages())
/** @type {Map<string, string>} */
const hashes = new Map()
const built = new Set()
/** @type {Map<Package, Promise<Package>>} */
const running = new Map()
try {
  while (pending.size > 0 || running.size > 0) {
    for (const pkg of pending) {
      if (running.size >= availableParallelism()) break
      if (!pkg.dependencies.every((d) => built.has(d))) continue
      pending.delete(pkg)
      running.set(
        pkg,
        build(pkg, hashes).then(() => pkg),
      )
    }
    if (running.size === 0) throw new Error(`packages import each other: ${[...pending].map((p) => p.name).join(', ')}`)
    const done = await Promise.race(running.values())
    running.delete(done)
    built.add(done.name)
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
