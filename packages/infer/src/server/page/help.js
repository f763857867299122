// @ts-check
import { announce, button, byId, create } from './dom.js'

/** @typedef {import('../../text-generator.js').Notice} Notice */
/** @typedef {import('../../text-generator.js').HelpResource} HelpResource */

/**
 * @param {readonly HelpResource[]} resources
 */
function list(resources) {
  return create('ul', { class: 'resources' }, ...resources.map(entry))
}

/** @param {HelpResource} resource */
function entry({ name, description, phone, text, url }) {
  const contact = create('span', { class: 'contact' })
  // In the banner there is room for one way to reach them.
  const more = phone !== undefined || text !== undefined ? 'more' : ''
  if (phone !== undefined) contact.append(create('a', { href: `tel:${phone.replaceAll(/[^\d+*#]/g, '')}` }, phone))
  if (text !== undefined) contact.append(create('b', {}, `text ${text}`))
  const link = url === undefined ? undefined : webLink(url, more)
  if (link !== undefined) contact.append(link)
  const item = create('li', {}, create('strong', {}, name), contact)
  if (description !== undefined) item.append(create('span', { class: `about ${more}` }, description))
  return item
}

/**
 * Only addresses of the web become links.
 * @param {string} url
 * @param {string} kind
 */
function webLink(url, kind) {
  if (!URL.canParse(url)) return undefined
  const { protocol, host } = new URL(url)
  if (protocol !== 'https:') return undefined
  return create(
    'a',
    { href: url, class: kind, target: '_blank', rel: 'noopener noreferrer' },
    host.replace(/^www\./, ''),
  )
}

/**
 * The banner with where to get help at once: who, and how to reach them; the panel behind "Help now" says more. It stays
 * until the person closes it.
 * @param {Notice} notice
 */
export function showNotice({ text, resources }) {
  const banner = byId('banner')
  const close = button('Close', 'quiet', () => {
    banner.hidden = true
    byId('message').focus()
  })
  close.setAttribute('aria-label', 'Close this note about help')
  banner.replaceChildren(create('header', {}, create('p', {}, text), close), list(resources))
  banner.hidden = false
  banner.scrollTop = 0
}

/**
 * Fills the panel behind the "Help now" button.
 * @param {Notice} notice
 */
export function offerHelp({ text, resources }) {
  byId('help-content').replaceChildren(create('p', { class: 'explain' }, text), list(resources))
  const open = byId('open-help')
  open.hidden = false
  open.onclick = () => {
    byId('help', HTMLDialogElement).showModal()
    announce('Where to get help')
  }
}
