// @ts-check
import * as api from './api.js'
import { announce, byId } from './dom.js'
import { showNotice } from './help.js'
import { AssistantTurn, failure, userTurn } from './turns.js'

/** @typedef {import('@mirastral/data').Turn} Turn */

/** The conversation: the turns that the server is sent, and what is shown of them. Kept in memory only. */
export class Conversation {
  /** @type {Turn[]} */
  #turns = []
  /** @type {AbortController | undefined} */
  #running
  /** @type {AssistantTurn | undefined} */
  #last
  #log = byId('log')
  #page = /** @type {HTMLElement} */ (document.querySelector('main'))

  /** @param {(busy: boolean) => void} onBusy */
  constructor(onBusy) {
    this.onBusy = onBusy
  }

  get busy() {
    return this.#running !== undefined
  }

  stop() {
    this.#running?.abort()
  }

  clear() {
    this.stop()
    this.#turns = []
    this.#last = undefined
    this.#log.replaceChildren()
    byId('banner').hidden = true
    byId('welcome').hidden = false
  }

  /**
   * Sends a message and shows the answer.
   * @param {string} text
   */
  async send(text) {
    if (this.busy) return
    byId('welcome').hidden = true
    const kept = this.#turns.length
    const item = userTurn(text, (changed) => {
      if (this.busy) return
      this.#rewind(kept, item)
      void this.send(changed)
    })
    this.#log.append(item)
    this.#turns.push({ role: 'user', content: text })
    await this.#answer(kept + 1)
  }

  /** @param {number} kept the number of turns up to and with the message to answer */
  async #answer(kept) {
    const controller = new AbortController()
    this.#running = controller
    this.onBusy(true)
    this.#last?.freeze()
    const answer = new AssistantTurn()
    this.#last = answer
    this.#log.append(answer.item)
    this.#follow(true)
    announce('The answer is coming')
    const retry = () => {
      if (this.busy) return
      this.#rewind(kept, answer.item)
      void this.#answer(kept)
    }
    try {
      const added = await this.#receive(answer, controller.signal)
      const wasAtEnd = this.#isAtEnd()
      this.#turns.push(...added)
      answer.end({ stopped: false, onRetry: retry })
      if (wasAtEnd) this.#follow(false)
      announce(answer.text)
    } catch (error) {
      this.#failed(answer, { error, stopped: controller.signal.aborted, retry })
    } finally {
      // A cleared conversation has let go of this answer already.
      if (this.#running === controller) this.#running = undefined
      this.onBusy(this.busy)
    }
  }

  /**
   * @param {AssistantTurn} answer
   * @param {AbortSignal} signal
   * @returns {Promise<readonly Turn[]>}
   */
  async #receive(answer, signal) {
    for await (const event of api.reply(this.#turns, signal)) {
      const wasAtEnd = this.#isAtEnd()
      if (event.type === 'notice') {
        if (event.notice.resources.length > 0) showNotice(event.notice)
        else answer.remark(event.notice.text)
        this.#follow(false)
      }
      if (event.type === 'finish') return event.turns
      answer.show(event)
      if (wasAtEnd) this.#follow(false)
    }
    throw new Error('The answer ended too early.')
  }

  /**
   * @param {AssistantTurn} answer
   * @param {{ error: unknown, stopped: boolean, retry: () => void }} how
   */
  #failed(answer, { error, stopped, retry }) {
    if (stopped) {
      answer.end({ stopped: true, onRetry: retry })
      if (answer.text !== '' && answer.item.isConnected) this.#turns.push({ role: 'assistant', content: answer.text })
      announce('Stopped')
      return
    }
    answer.end({ stopped: false, onRetry: undefined })
    if (answer.text === '') answer.item.remove()
    const message = error instanceof api.Refused ? error.message : 'The connection to the server was lost.'
    const item = failure(message, () => {
      item.remove()
      retry()
    })
    this.#log.append(item)
    this.#follow(true)
  }

  /**
   * Forgets everything from this item of the log on.
   * @param {number} kept
   * @param {HTMLElement} from
   */
  #rewind(kept, from) {
    this.#turns.length = Math.min(kept, this.#turns.length)
    while (from.nextElementSibling !== null) from.nextElementSibling.remove()
    from.remove()
  }

  #isAtEnd() {
    return this.#page.scrollHeight - this.#page.scrollTop - this.#page.clientHeight < 80
  }

  /** @param {boolean} smoothly */
  #follow(smoothly) {
    this.#page.scrollTo({ top: this.#page.scrollHeight, behavior: smoothly ? 'smooth' : 'instant' })
  }
}
