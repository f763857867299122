import { decoder } from './decoder.js'

/** Qwen2 and Qwen2.5: biases on queries, keys and values. */
export const qwen2 = decoder({
  modelType: 'qwen2',
  defaults: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositionEmbeddings: 32768,
    numKeyValueHeads: 32,
    headDim: null,
    bosTokenId: null,
    eosTokenId: null,
  },
  biases: { attention: true, attentionOutput: false, mlp: false },
  qkNorm: false,
  slidingWindow: 'by-layer',
})
