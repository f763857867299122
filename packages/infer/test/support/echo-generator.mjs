/** A generator for the command line's tests: it repeats the last message, slowly. */
export default () => ({
  modelId: 'echo',
  contextLength: 1000,
  toolCallMarker: 'control',
  countTokens: (messages) => messages.length,
  async *generate(request, signal) {
    const text = 'prompt' in request ? request.prompt : request.messages.at(-1).content
    let tokenId = 0
    for (const word of text.split(/(?= )/)) {
      await new Promise((resolve) => setTimeout(resolve, word.includes('slow') ? 300 : 1))
      signal?.throwIfAborted()
      yield { type: 'token', text: word, tokenId: tokenId++ }
    }
    yield { type: 'finish', reason: 'stop', usage: { promptTokens: 1, completionTokens: tokenId } }
  },
})
