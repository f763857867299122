// @ts-check
import * as api from './api.js'
import { Conversation } from './conversation.js'
import { button, byId } from './dom.js'
import { offerHelp } from './help.js'
import { setUpProfile } from './profile.js'

const message = byId('message', HTMLTextAreaElement)
const send = byId('send', HTMLButtonElement)
const stop = byId('stop', HTMLButtonElement)

const conversation = new Conversation((busy) => {
  send.hidden = busy
  stop.hidden = !busy
  byId('new').hidden = false
  updateSend()
})

function updateSend() {
  send.disabled = message.value.trim() === ''
}

function grow() {
  if (CSS.supports('field-sizing', 'content')) return
  message.style.height = 'auto'
  message.style.height = `${message.scrollHeight}px`
}

function submit() {
  const text = message.value.trim()
  if (text === '' || conversation.busy) return
  message.value = ''
  updateSend()
  grow()
  void conversation.send(text)
}

function setUpComposer() {
  byId('composer', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    submit()
  }
  message.oninput = () => {
    updateSend()
    grow()
  }
  message.onkeydown = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    submit()
  }
  stop.onclick = () => {
    conversation.stop()
    message.focus()
  }
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && document.querySelector('dialog[open]') === null) conversation.stop()
  })
  byId('new').onclick = () => {
    conversation.clear()
    byId('new').hidden = true
    message.focus()
  }
  for (const close of document.querySelectorAll('[data-close]')) {
    close.addEventListener('click', () => close.closest('dialog')?.close())
  }
  updateSend()
}

/** @returns {Promise<void>} resolves when the person has given a key */
function askForKey(/** @type {string} */ problem) {
  const dialog = byId('key', HTMLDialogElement)
  const input = byId('key-input', HTMLInputElement)
  const error = byId('key-error')
  error.textContent = problem
  error.hidden = problem === ''
  dialog.oncancel = (event) => event.preventDefault()
  dialog.showModal()
  return new Promise((resolve) => {
    byId('key-form', HTMLFormElement).onsubmit = (event) => {
      event.preventDefault()
      api.useKey(input.value.trim())
      input.value = ''
      dialog.close()
      resolve()
    }
  })
}

async function openSession() {
  for (let attempt = 0; ; attempt++) {
    try {
      return await api.session()
    } catch (error) {
      if (!(error instanceof api.Refused) || error.status !== 401) throw error
      await askForKey(attempt === 0 ? '' : 'This key was not accepted.')
    }
  }
}

async function start() {
  setUpComposer()
  const { title, greeting, disclaimer, starters, help, hasProfile } = await openSession()
  document.title = title
  byId('title').textContent = title
  byId('greeting').textContent = greeting
  byId('disclaimer').textContent = disclaimer
  byId('starters').replaceChildren(
    ...starters.map((text) =>
      button(text, '', () => {
        message.value = text
        updateSend()
        grow()
        message.focus()
      }),
    ),
  )
  offerHelp(help)
  if (hasProfile) setUpProfile()
  message.focus()
}

start().catch(() => {
  byId('disclaimer').textContent = 'The server cannot be reached. Reload the page to try again.'
})
