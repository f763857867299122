// @ts-check
import * as api from './api.js'
import { announce, button, byId, confirmed, create } from './dom.js'

/** @typedef {import('../../profile/profile-store.js').ProfileEntry} ProfileEntry */
/** @typedef {import('../../profile/profile-store.js').ProfileKind} ProfileKind */

const names = { preference: 'Preference', goal: 'Goal', fact: 'About me', history: 'History' }

/** Makes the profile panel work. */
export function setUpProfile() {
  const dialog = byId('profile', HTMLDialogElement)
  const open = byId('open-profile')
  open.hidden = false
  open.onclick = () => {
    dialog.showModal()
    void attempt(refresh)
  }
  byId('add-entry', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    void attempt(add)
  }
  byId('export-profile').onclick = () => void attempt(download)
  byId('delete-profile').onclick = () => void attempt(deleteAll)
}

/** @param {() => Promise<void>} action */
async function attempt(action) {
  const error = byId('profile-error')
  error.hidden = true
  try {
    await action()
  } catch (problem) {
    error.textContent = problem instanceof Error ? problem.message : 'That did not work.'
    error.hidden = false
  }
}

async function refresh() {
  const entries = await api.profileEntries()
  const shown =
    entries.length === 0 ? [create('p', { class: 'explain' }, 'Nothing is remembered yet.')] : entries.map(entry)
  byId('entries').replaceChildren(...shown)
}

/** @param {ProfileEntry} entry */
function entry({ id, kind, text }) {
  const said = create('p', { class: 'said' }, text)
  const correct = button('Correct', 'quiet', () => said.replaceWith(correction(id, text)))
  correct.setAttribute('aria-label', `Correct: ${text.slice(0, 60)}`)
  const remove = button(
    'Delete',
    'quiet',
    () =>
      void attempt(async () => {
        await api.removeEntry(id)
        await refresh()
        announce('Deleted')
      }),
  )
  remove.setAttribute('aria-label', `Delete: ${text.slice(0, 60)}`)
  const row = create('div', { class: 'row' }, correct, remove)
  return create('article', { class: 'entry' }, create('p', { class: 'kind' }, names[kind]), said, row)
}

/**
 * @param {string} id
 * @param {string} text
 */
function correction(id, text) {
  const field = create('textarea', { rows: '2', maxlength: '2000', 'aria-label': 'Corrected text', required: true })
  field.value = text
  const save = create('button', { type: 'submit', class: 'solid' }, 'Save')
  const form = create('form', { class: 'edit' }, field, create('div', { class: 'row' }, save))
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    void attempt(async () => {
      await api.correctEntry(id, field.value)
      await refresh()
      announce('Saved')
    })
  })
  queueMicrotask(() => field.focus())
  return form
}

async function add() {
  const text = byId('entry-text', HTMLTextAreaElement)
  const kind = /** @type {ProfileKind} */ (byId('entry-kind', HTMLSelectElement).value)
  await api.addEntry({ kind, text: text.value, agreed: true })
  byId('add-entry', HTMLFormElement).reset()
  await refresh()
  announce('Remembered')
}

async function download() {
  const url = URL.createObjectURL(await api.exportProfile())
  const link = create('a', { href: url, download: 'mirastral-profile.json' })
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

async function deleteAll() {
  const sure = await confirmed({
    title: 'Delete your whole profile?',
    text: 'Everything that is remembered about you is deleted from this server. This cannot be undone.',
    yes: 'Delete everything',
  })
  if (!sure) return
  await api.deleteProfile()
  await refresh()
  announce('Your profile is deleted')
}
