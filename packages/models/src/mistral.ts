import { decoder } from './decoder.js'

/** Mistral 7B: v0.1 has a sliding window of 4096 (also where config.json has no such key), v0.2 and v0.3 set it to null. */
export const mistral = decoder({
  modelType: 'mistral',
  defaults: {
    vocabSize: 32000,
    intermediateSize: 14336,
    maxPositionEmbeddings: 131072,
    numKeyValueHeads: 8,
    headDim: null,
    bosTokenId: 1,
    eosTokenId: 2,
  },
  biases: { attention: false, attentionOutput: false, mlp: false },
  qkNorm: false,
  slidingWindow: 'all',
})
