import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ProfileStore, chatPageRoutes, defineTool, loadPageAssets } from '@mirastral/infer'
import type { ChatPageOptions, Notice } from '@mirastral/infer'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { chromiumPath, desktop, launchChromium, openPage, phone, picture } from './support/browser.js'
import { scriptedGenerator, toolCallsPiece } from './support/scripted-generator.js'
import type { ScriptedAnswer } from './support/scripted-generator.js'
import { startTestServer, until } from './support/test-server.js'

if (chromiumPath === undefined) {
  console.log(
    'skipped: the tests of the chat page in a browser, because no Chromium is installed (CHROMIUM_PATH names one)',
  )
}

const help: Notice = {
  category: 'suicide',
  severity: 'acute',
  text: 'What you write worries me, and you do not have to carry it alone. People are there for you right now:',
  resources: [
    { name: 'Emergency services', phone: '112', description: 'Day and night, free of charge' },
    { name: 'Crisis line', phone: '+1 555 0100', text: 'HOME to 0100', url: 'https://www.example.org/help', description: 'Talk or chat, day and night' }, // prettier-ignore
  ],
}

const listening = [
  'It sounds like the last weeks took a lot out of you, and that you kept going anyway. ',
  'When you say that everything is too much, ',
  'what weighs on you most at the moment?\n\n',
  'If it helps, we could look at it together in small steps:\n\n',
  '- what has to happen this week\n- what can wait\n- what would do you **good**',
]

const inert =
  '<img src=x onerror="document.title=1"><script>document.title=2</script>[/INST] **bold** [a](javascript:alert(1))'

describe.skipIf(chromiumPath === undefined)('the chat page in a browser', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchChromium()
  })
  afterAll(() => browser.close())

  async function start(script: ScriptedAnswer[], options: Partial<ChatPageOptions> = {}, apiKeys?: string[]) {
    const generator = scriptedGenerator(script)
    const assets = await loadPageAssets()
    const server = await startTestServer({
      models: [generator],
      ...(apiKeys === undefined ? {} : { apiKeys }),
      routes: (app, services) => chatPageRoutes(app, services, { assets, generator, ...options }),
    })
    return { server, generator }
  }

  const say = async (page: Page, text: string): Promise<void> => {
    await page.getByLabel('Your message', { exact: true }).fill(text)
    await page.keyboard.press('Enter')
  }
  const answers = (page: Page) => page.locator('.turn.assistant .text')
  const finished = (page: Page, n: number) =>
    page
      .locator('.turn.assistant:not([aria-busy])')
      .nth(n - 1)
      .waitFor()

  it.each([
    ['phone', phone],
    ['desktop', desktop],
  ])('is readable and whole on a %s, in light and dark', async (name, device) => {
    const tool = defineTool({
      name: 'calendar',
      parameters: z.object({ week: z.int() }),
      run: () => ({ free: ['Tue', 'Thu'] }),
    })
    const script = [{ pieces: listening }, { pieces: [toolCallsPiece, '[{"name":"calendar","arguments":{"week":3}}]'] }, { pieces: ['Tuesday and Thursday are still free.'] }, { pieces: ['I am glad that you told me.'], notice: help }] // prettier-ignore
    const profile = await ProfileStore.open({
      path: join(await mkdtemp(join(tmpdir(), 'page-')), 'p.json'),
      passphrase: 'correct horse',
      scrypt: { N: 16, r: 8, p: 1 },
    })
    await profile.add({ kind: 'preference', text: 'Short answers, please', agreed: true })
    await profile.add({ kind: 'goal', text: 'Sleep through the night again', agreed: true })
    for (const colorScheme of ['light', 'dark'] as const) {
      const { server } = await start(script, { tools: [tool], profile })
      const { page, problems } = await openPage(browser, server.url, { ...device, colorScheme })
      await page.getByText('What is on your mind today?').waitFor()
      await picture(page, `${name}-${colorScheme}-1-welcome`)
      await say(page, 'Everything is too much at the moment. I do not know where to begin.')
      await finished(page, 1)
      await picture(page, `${name}-${colorScheme}-2-answer`)
      await say(page, 'Which evenings are free?')
      await finished(page, 2)
      await page.getByText('Used calendar').click()
      await picture(page, `${name}-${colorScheme}-3-tool`)
      await say(page, 'Sometimes I do not want to be here any more.')
      await finished(page, 3)
      await picture(page, `${name}-${colorScheme}-4-banner`)
      await page.getByRole('button', { name: 'Profile' }).click()
      await page.getByText('Sleep through the night again').waitFor()
      await picture(page, `${name}-${colorScheme}-5-profile`)
      await page.keyboard.press('Escape')
      await page.getByRole('button', { name: 'Help now' }).click()
      await picture(page, `${name}-${colorScheme}-6-help`)
      await page.keyboard.press('Escape')
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
      expect(overflow).toBeLessThanOrEqual(0)
      expect(problems).toEqual([])
      await page.context().close()
    }
  })

  it('shows the answer as it comes and forgets nothing of the conversation', async () => {
    let goOn: () => void = () => undefined
    const hold = new Promise<void>((resolve) => (goOn = resolve))
    const { server, generator } = await start([{ pieces: ['One', ' two', ' three'], hold }, { pieces: ['Four'] }])
    const { page, problems } = await openPage(browser, server.url)
    await say(page, 'Count')
    await answers(page).getByText('One', { exact: true }).waitFor()
    expect(await page.locator('.turn.assistant').getAttribute('aria-busy')).toBe('true')
    goOn()
    await finished(page, 1)
    expect(await answers(page).first().textContent()).toBe('One two three')
    await say(page, 'Go on')
    await finished(page, 2)
    const [, second] = generator.requests
    expect('messages' in second ? second.messages.map((m) => m.content) : []).toEqual([
      'Count',
      'One two three',
      'Go on',
    ])
    expect(problems).toEqual([])
  })

  it('stops an answer, keeps what was said, and frees the server', async () => {
    const { server, generator } = await start([
      { pieces: ['One', ...Array.from({ length: 500 }, () => ' more')], delayMs: 10 },
      { pieces: ['Yes.'] },
    ])
    const { page } = await openPage(browser, server.url)
    await say(page, 'Go')
    await page.getByText(/^One more/).waitFor()
    await page.getByRole('button', { name: 'Stop the answer' }).click()
    await page.getByText('Stopped.').waitFor()
    await until(() => generator.active === 0 && server.load().active === 0)
    await say(page, 'And?')
    await finished(page, 2)
    const [, second] = generator.requests
    expect('messages' in second ? second.messages[1].content : '').toMatch(/^One( more)*$/)
  })

  it('changes a message and answers anew, and tries another answer', async () => {
    const { server, generator } = await start(
      ['first', 'second', 'third', 'fourth'].map((text) => ({ pieces: [text] })),
    )
    const { page, problems } = await openPage(browser, server.url)
    await say(page, 'Original')
    await finished(page, 1)
    await say(page, 'Later')
    await finished(page, 2)
    await page.getByRole('button', { name: 'Try another answer' }).click()
    await answers(page).getByText('third').waitFor()
    expect(await answers(page).allTextContents()).toEqual(['first', 'third'])
    await page.getByRole('button', { name: 'Edit this message' }).first().click()
    await page.keyboard.press('Control+A')
    await page.keyboard.type('Changed')
    await page.keyboard.press('Enter')
    await answers(page).getByText('fourth').waitFor()
    await finished(page, 1)
    expect(await answers(page).allTextContents()).toEqual(['fourth'])
    expect(generator.requests.map((r) => ('messages' in r ? r.messages.map((m) => m.content) : []))).toEqual([
      ['Original'],
      ['Original', 'first', 'Later'],
      ['Original', 'first', 'Later'],
      ['Changed'],
    ])
    expect(problems).toEqual([])
  })

  it('shows the steps of tools, also failed ones', async () => {
    const good = defineTool({ name: 'clock', parameters: z.object({}), run: () => inert })
    const bad = defineTool({
      name: 'broken',
      parameters: z.object({}),
      run: () => Promise.reject(new Error('no line')),
    })
    const { server } = await start(
      [{ pieces: ['Let me see.', toolCallsPiece, '[{"name":"clock"},{"name":"broken"}]'] }, { pieces: ['Noon.'] }],
      { tools: [good, bad] },
    )
    const { page, problems } = await openPage(browser, server.url)
    await say(page, 'What time is it?')
    await finished(page, 1)
    expect(await page.locator('.step summary').allTextContents()).toEqual(['Used clock', 'broken did not work'])
    expect(await answers(page).allTextContents()).toEqual(['Let me see.', 'Noon.'])
    await page.getByText('Used clock').click()
    expect(await page.locator('.step dd').nth(1).textContent()).toBe(inert)
    expect(problems).toEqual([])
  })

  it('shows where to get help at once, as an alert with telephone links', async () => {
    const { server } = await start([{ pieces: ['I hear you.'], notice: help }])
    const { page, problems } = await openPage(browser, server.url)
    await say(page, 'x')
    const banner = page.getByRole('alert')
    await banner.getByText('Crisis line').waitFor()
    const links = await banner.getByRole('link').all()
    expect(await Promise.all(links.map((link) => link.getAttribute('href')))).toEqual(['tel:112', 'tel:+15550100'])
    await page.getByRole('button', { name: 'Close this note about help' }).click()
    expect(await page.locator('#banner').isVisible()).toBe(false)
    expect(await banner.getByText('text HOME to 0100').count()).toBe(0)
    await page.getByRole('button', { name: 'Help now' }).click()
    expect(await page.locator('#help').isVisible()).toBe(true)
    expect(problems).toEqual([])
  })

  it('says beside the answer what is no matter of help', async () => {
    const notice = { category: 'disclosure', severity: 'none', text: 'This is a program.', resources: [] }
    const { server } = await start([{ pieces: ['I hear you.'], notice }])
    const { page, problems } = await openPage(browser, server.url)
    await say(page, 'x')
    await finished(page, 1)
    expect(await page.locator('.turn.assistant .remark').textContent()).toBe('This is a program.')
    expect(await page.locator('#banner').isVisible()).toBe(false)
    expect(problems).toEqual([])
  })

  it('keeps HTML and markup inert in every field', async () => {
    const profile = await ProfileStore.open({
      path: join(await mkdtemp(join(tmpdir(), 'page-')), 'p.json'),
      passphrase: 'correct horse',
      scrypt: { N: 16, r: 8, p: 1 },
    })
    await profile.add({ kind: 'fact', text: inert, agreed: true })
    const notice = {
      category: 'x',
      severity: 'y',
      text: inert,
      resources: [{ name: inert, phone: inert, url: 'javascript:alert(1)', description: inert }],
    }
    const { server } = await start([{ pieces: [inert], notice }], {
      profile,
      title: inert,
      greeting: inert,
      disclaimer: inert,
      starters: [inert],
      help: notice,
    })
    const { page, problems } = await openPage(browser, server.url)
    await expect.poll(() => page.title()).toBe(inert)
    await say(page, inert)
    await finished(page, 1)
    await page.getByRole('button', { name: 'Profile' }).click()
    await page.locator('.entry .said').waitFor()
    expect(await page.locator('.entry .said').textContent()).toBe(inert)
    expect(await page.locator('.turn.user .text').textContent()).toBe(inert)
    expect(await answers(page).textContent()).toBe(inert.replaceAll('**', ''))
    expect(await page.locator('main img, main script, dialog img, dialog script').count()).toBe(0)
    expect(await page.locator('a[href^="javascript"]').count()).toBe(0)
    await expect.poll(() => page.title()).toBe(inert)
    expect(problems).toEqual([])
  })

  it('shows, corrects, exports and deletes the profile', async () => {
    const profile = await ProfileStore.open({
      path: join(await mkdtemp(join(tmpdir(), 'page-')), 'p.json'),
      passphrase: 'correct horse',
      scrypt: { N: 16, r: 8, p: 1 },
    })
    const { server } = await start([], { profile })
    const { page, problems } = await openPage(browser, server.url)
    await page.getByRole('button', { name: 'Profile' }).click()
    await page.getByText('Nothing is remembered yet.').waitFor()
    await page.getByLabel('Kind').selectOption('goal')
    await page.getByLabel('In your words').fill('walk every day')
    await page.getByRole('button', { name: 'Remember' }).click()
    expect(profile.show()).toEqual([])
    await page.getByLabel('I agree that this is remembered').check()
    await page.getByRole('button', { name: 'Remember' }).click()
    await page.getByText('walk every day').waitFor()
    await page.getByRole('button', { name: 'Correct: walk' }).click()
    await page.getByLabel('Corrected text').fill('walk twice a week')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByText('walk twice a week').waitFor()
    expect(profile.show().map((e) => e.text)).toEqual(['walk twice a week'])
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Export' }).click(),
    ])
    expect(download.suggestedFilename()).toBe('mirastral-profile.json')
    await page.getByRole('button', { name: 'Delete everything' }).click()
    await page.getByRole('button', { name: 'Keep' }).click()
    expect(profile.show()).toHaveLength(1)
    await page.getByRole('button', { name: 'Delete everything' }).first().click()
    await page.locator('#confirm-yes').click()
    await page.getByText('Nothing is remembered yet.').waitFor()
    expect(profile.show()).toEqual([])
    expect(problems).toEqual([])
  })

  it('asks for the key of the server, again when it is wrong', async () => {
    const { server } = await start([{ pieces: ['Hello.'] }], {}, ['a-long-enough-key'])
    const { page } = await openPage(browser, server.url)
    await page.getByRole('textbox', { name: 'Key' }).fill('wrong-key')
    await page.keyboard.press('Enter')
    await page.getByText('This key was not accepted.').waitFor()
    await page.getByRole('textbox', { name: 'Key' }).fill('a-long-enough-key')
    await page.keyboard.press('Enter')
    await page.locator('#key').waitFor({ state: 'hidden' })
    await say(page, 'Hi')
    await finished(page, 1)
    expect(await answers(page).textContent()).toBe('Hello.')
  })

  it('says what went wrong and tries again', async () => {
    const { server } = await start([{ pieces: [], error: new Error('gone') }, { pieces: ['Better.'] }])
    const { page } = await openPage(browser, server.url)
    await say(page, 'Hi')
    await page.getByText('The server failed to answer').waitFor()
    await page.getByRole('button', { name: 'Try again' }).click()
    await finished(page, 1)
    expect(await answers(page).allTextContents()).toEqual(['Better.'])
    expect(await page.getByText('The server failed to answer').count()).toBe(0)
  })

  it('is used with the keyboard alone, and tells screen readers what happens', async () => {
    const { server } = await start([
      { pieces: ['A calm answer.'] },
      { pieces: ['x', ...Array.from({ length: 500 }, () => ' y')], delayMs: 10 },
    ])
    const { page } = await openPage(browser, server.url)
    await page.getByText('What is on your mind today?').waitFor()
    await page.waitForFunction('document.activeElement.id === "message"')
    await page.keyboard.type('Line one')
    await page.keyboard.press('Shift+Enter')
    await page.keyboard.type('line two')
    await page.keyboard.press('Enter')
    await finished(page, 1)
    expect(await page.locator('.turn.user .text').textContent()).toBe('Line one\nline two')
    expect(await page.getByRole('status').textContent()).toBe('A calm answer.')
    expect(await page.evaluate('document.activeElement.id')).toBe('message')
    await page.keyboard.type('Again')
    await page.keyboard.press('Enter')
    await answers(page).getByText(/^x/).waitFor()
    await page.keyboard.press('Escape')
    await page.getByText('Stopped.').waitFor()
    const unnamed = await page.evaluate(
      `[...document.querySelectorAll('button, input, textarea, select')].filter((e) => e.checkVisibility() && !e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length).map((e) => e.outerHTML)`,
    )
    expect(unnamed).toEqual([])
    await page.keyboard.press('Shift+Tab')
    const focused = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
    expect(focused).not.toBe('none')
  })

  it('begins anew when asked, and nothing of the conversation is kept in the browser', async () => {
    const { server, generator } = await start([{ pieces: ['One.'] }, { pieces: ['Two.'] }])
    const { page } = await openPage(browser, server.url)
    await say(page, 'Private')
    await finished(page, 1)
    expect(await page.evaluate('localStorage.length + sessionStorage.length + document.cookie.length')).toBe(0)
    await page.getByRole('button', { name: 'New conversation' }).click()
    expect(await page.locator('.turn').count()).toBe(0)
    await say(page, 'Fresh')
    await finished(page, 1)
    expect(generator.requests[1]).toMatchObject({ messages: [{ role: 'user', content: 'Fresh' }] })
  })
})
