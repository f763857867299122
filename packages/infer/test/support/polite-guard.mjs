/** A guard for the command line's tests: it answers "help" itself and stops answers that say "rude". */
export default {
  checkInput: async (turns) =>
    turns.at(-1).content === 'help' ? { action: 'respond', text: 'Please call 112.' } : { action: 'answer' },
  watchOutput: () => ({
    push: (text) => (text.includes('rude') ? { text: '', ending: { text: ' ...' } } : { text }),
    finish: () => ({ text: '' }),
  }),
}
