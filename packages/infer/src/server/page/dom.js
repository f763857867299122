// @ts-check

/**
 * The element with this id, which the page always has.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function byId(id, type) {
  const element = document.getElementById(id)
  if (element === null || (type !== undefined && !(element instanceof type))) throw new Error(`no element ${id}`)
  return /** @type {T} */ (element)
}

/**
 * A new element. Children that are strings become text: nothing is ever read as markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean>} [attributes] `false` leaves one out
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children)
  return element
}

/**
 * A button that calls a function.
 * @param {string} label
 * @param {string} className
 * @param {() => void} onClick
 */
export function button(label, className, onClick) {
  const element = create('button', { type: 'button', class: className }, label)
  element.addEventListener('click', onClick)
  return element
}

/**
 * Tells people who use a screen reader what happened.
 * @param {string} text
 */
export function announce(text) {
  byId('status').textContent = text
}

/**
 * Asks before something that cannot be undone.
 * @param {{ title: string, text: string, yes: string }} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, yes }) {
  const dialog = byId('confirm', HTMLDialogElement)
  byId('confirm-title').textContent = title
  byId('confirm-text').textContent = text
  byId('confirm-yes').textContent = yes
  return new Promise((resolve) => {
    const answer = (/** @type {boolean} */ value) => () => {
      resolve(value)
      dialog.close()
    }
    byId('confirm-yes').onclick = answer(true)
    byId('confirm-no').onclick = answer(false)
    dialog.onclose = () => resolve(false)
    dialog.showModal()
    byId('confirm-no').focus()
  })
}
