import { decoder } from './decoder.js'

/** Llama 2 and 3 (with the RoPE scaling of 3.1), and models of the same shape: TinyLlama, SmolLM2. */
export const llama = decoder({
  modelType: 'llama',
  defaults: {
    vocabSize: 32000,
    intermediateSize: 11008,
    maxPositionEmbeddings: 2048,
    numKeyValueHeads: null,
    headDim: null,
    bosTokenId: 1,
    eosTokenId: 2,
  },
  biases: { attention: 'key', attentionOutput: 'key', mlp: 'key' },
  qkNorm: false,
  slidingWindow: 'none',
})
