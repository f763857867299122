// Takes pictures of a report in headless Chromium, light, dark, on a phone and as printed, and fails if the page is wider than
// its window, asks for anything outside itself, or reports an error.
// Usage: node --loader ts-node/esm packages/trainer/test/support/screenshots.ts <report.html or URL> <folder> [chromium]
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Browser, BrowserContextOptions } from 'playwright-core'
import { chromium } from 'playwright-core'

const looks: Record<string, BrowserContextOptions> = {
  light: { viewport: { width: 1280, height: 900 }, colorScheme: 'light' },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: 'light', deviceScaleFactor: 2 },
  print: { viewport: { width: 800, height: 1100 }, colorScheme: 'dark' },
  'phone-dark': { viewport: { width: 360, height: 740 }, colorScheme: 'dark', deviceScaleFactor: 2 },
}

async function takePicture(browser: Browser, url: string, name: string, folder: string): Promise<string[]> {
  const context = await browser.newContext(looks[name])
  const page = await context.newPage()
  if (name === 'print') await page.emulateMedia({ media: 'print' })
  const problems: string[] = []
  page.on('console', (message) => message.type() === 'error' && problems.push(`${name}: ${message.text()}`))
  page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`))
  page.on('request', (request) => {
    if (!request.url().startsWith(new URL(url).origin) && !/^(file|data):/.test(request.url())) {
      problems.push(`${name}: asked for ${request.url()}`)
    }
  })
  await page.goto(url, { waitUntil: 'load' })
  const overflow = await page.evaluate('document.documentElement.scrollWidth - window.innerWidth')
  if (Number(overflow) > 0) problems.push(`${name}: ${String(overflow)} pixels wider than the window`)
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
  await context.close()
  return problems
}

const [target, folder, executablePath = '/usr/bin/chromium'] = process.argv.slice(2)
if (!target || !folder) {
  process.stderr.write('screenshots: needs a report (file or URL) and a folder for the pictures\n')
  process.exit(2)
}
await mkdir(folder, { recursive: true })
const url = target.startsWith('http') ? target : pathToFileURL(resolve(target)).href
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const problems: string[] = []
for (const name of Object.keys(looks)) problems.push(...(await takePicture(browser, url, name, folder)))
await browser.close()
for (const problem of problems) process.stderr.write(`${problem}\n`)
process.stdout.write(`${Object.keys(looks).length} pictures in ${folder}, ${problems.length} problems\n`)
process.exit(problems.length > 0 ? 1 : 0)
