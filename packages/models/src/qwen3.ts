import { decoder } from './decoder.js'

/** Qwen3 (dense): RMS norms on the heads of queries and keys, a head size of its own. */
export const qwen3 = decoder({
  modelType: 'qwen3',
  defaults: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositionEmbeddings: 32768,
    numKeyValueHeads: 32,
    headDim: 128,
    bosTokenId: null,
    eosTokenId: null,
  },
  biases: { attention: 'key', attentionOutput: 'key', mlp: false },
  qkNorm: true,
  slidingWindow: 'by-layer',
})
