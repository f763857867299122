// @ts-check
import { button, create } from './dom.js'
import { formatted } from './formatted.js'

/** @typedef {import('../../reply.js').ChatEvent} ChatEvent */

/**
 * What the person wrote, with a button to change it.
 * @param {string} text
 * @param {(changed: string) => void} onEdit
 */
export function userTurn(text, onEdit) {
  const shown = create('div', { class: 'text' }, text)
  const tools = create('div', { class: 'tools' })
  const item = create('li', { class: 'turn user' }, create('span', { class: 'hidden' }, 'You said'), shown, tools)
  const startEditing = () => {
    const form = editForm(text, {
      onSave: (changed) => onEdit(changed),
      onCancel: () => {
        form.replaceWith(shown)
        tools.hidden = false
        edit.focus()
      },
    })
    tools.hidden = true
    shown.replaceWith(form)
    form.querySelector('textarea')?.focus()
  }
  const edit = button('Edit', 'quiet', startEditing)
  edit.setAttribute('aria-label', 'Edit this message and send it again')
  tools.append(edit)
  return item
}

/**
 * @param {string} text
 * @param {{ onSave: (changed: string) => void, onCancel: () => void }} actions
 */
function editForm(text, { onSave, onCancel }) {
  const field = create('textarea', { rows: '3', maxlength: '8000', 'aria-label': 'Your message' })
  field.value = text
  const save = create('button', { type: 'submit', class: 'solid' }, 'Send again')
  const row = create('div', { class: 'row' }, button('Cancel', 'quiet', onCancel), save)
  const form = create('form', { class: 'edit' }, field, row)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    if (field.value.trim() !== '') onSave(field.value.trim())
  })
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') onCancel()
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      form.requestSubmit()
    }
  })
  return form
}

/** An answer that grows while it comes: texts and the steps of tools, in the order in which they happen. */
export class AssistantTurn {
  text = ''
  /** @type {Map<string, HTMLDetailsElement>} */
  #steps = new Map()
  #piece = ''
  /** @type {HTMLElement | undefined} */
  #shown
  #waiting = create('div', { class: 'waiting', role: 'img', 'aria-label': 'Thinking' }, dot(), dot(), dot())

  constructor() {
    this.item = create(
      'li',
      { class: 'turn assistant', 'aria-busy': 'true' },
      create('span', { class: 'hidden' }, 'The answer'),
      this.#waiting,
    )
  }

  /** @param {ChatEvent} event */
  show(event) {
    if (event.type === 'text') this.#append(event.text)
    if (event.type === 'toolCall') this.#step(event.call.id, event.call.name, event.call.arguments)
    if (event.type === 'toolResult') this.#result(event.id, event.name, event.outcome)
  }

  /**
   * Says something about this answer that is not part of it.
   * @param {string} text
   */
  remark(text) {
    this.item.prepend(create('p', { class: 'remark' }, text))
  }

  /**
   * Ends the answer.
   * @param {{ stopped: boolean, onRetry: (() => void) | undefined }} how
   */
  end({ stopped, onRetry }) {
    this.#waiting.remove()
    this.item.removeAttribute('aria-busy')
    if (stopped) this.item.append(create('p', { class: 'stopped' }, 'Stopped.'))
    if (onRetry === undefined) return
    const retry = button('Try another answer', 'quiet', onRetry)
    this.item.append(create('div', { class: 'tools' }, retry))
  }

  /** Only the last answer can be tried again. */
  freeze() {
    this.item.querySelector('.tools')?.remove()
  }

  /** @param {string} text */
  #append(text) {
    this.text += text
    this.#piece += text
    if (this.#shown === undefined) {
      this.#shown = create('div', { class: 'text' })
      this.#waiting.before(this.#shown)
    }
    this.#waiting.hidden = true
    this.#shown.replaceChildren(...formatted(this.#piece))
  }

  /**
   * @param {string} id
   * @param {string} name
   * @param {Record<string, unknown>} args
   */
  #step(id, name, args) {
    const list = create('dl', {}, create('dt', {}, 'Asked'), create('dd', {}, listed(args)))
    const step = create('details', { class: 'step' }, create('summary', {}, `Using ${name} …`), list)
    this.#steps.set(id, step)
    this.#shown = undefined
    this.#piece = ''
    this.#waiting.before(step)
    this.#waiting.hidden = false
  }

  /**
   * @param {string} id
   * @param {string} name
   * @param {{ ok: boolean, content: string }} outcome
   */
  #result(id, name, { ok, content }) {
    const step = this.#steps.get(id)
    if (step === undefined) return
    const summary = step.querySelector('summary')
    if (summary !== null) summary.textContent = ok ? `Used ${name}` : `${name} did not work`
    step.querySelector('dl')?.append(create('dt', {}, 'Result'), create('dd', {}, content))
  }
}

/**
 * One line for each argument of a tool.
 * @param {Record<string, unknown>} args
 */
function listed(args) {
  const lines = Object.entries(args).map(([name, value]) => {
    return `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`
  })
  return lines.length === 0 ? 'nothing in particular' : lines.join('\n')
}

const dot = () => create('span')

/**
 * Says what went wrong, where the answer would have been.
 * @param {string} message
 * @param {() => void} onRetry
 */
export function failure(message, onRetry) {
  const again = button('Try again', 'outline', onRetry)
  return create('li', { class: 'turn' }, create('div', { class: 'notice-error', role: 'alert' }, message, again))
}
