import type { EvidenceInput } from '@mirastral/lora'

/** The records of a small run, as a trainer would hand them over. */
export const evidence: EvidenceInput = {
  baseModel: {
    id: 'mistralai/Mistral-7B-Instruct-v0.3',
    revision: 'e0bc86c2',
    modelType: 'mistral',
    parameters: 7_248_023_552,
    license: 'apache-2.0',
  },
  quantization: { type: 'nf4', blockSize: 64, doubleQuant: true },
  adapter: { trainableParameters: 13_631_488, adaptedModules: 128 },
  hyperparameters: {
    learningRate: 2e-5,
    epochs: 3,
    scheduler: 'linear',
    seed: 42,
    gradientCheckpointing: true,
    note: 'a | b',
    adamBetas: ['0.9', '0.999'],
    maxSteps: null,
  },
  data: {
    files: [
      { sha256: 'a'.repeat(64), records: 40, used: 38 },
      { sha256: 'b'.repeat(64), records: 25, used: 25 },
    ],
    trainConversations: 57,
    evalConversations: 6,
    dropped: { 'no assistant turn': 2, 'broken JSON': 0 },
    tokens: 12_000,
    trainedTokens: 4_500,
    maxLength: 256,
    truncatedConversations: 3,
    languages: ['en', 'no'],
  },
  results: {
    steps: 45,
    epochs: 3,
    trainLoss: Array.from({ length: 45 }, (_, i) => ({ step: i + 1, loss: 3 - i / 30 })),
    evalLoss: [
      { step: 20, loss: 2.4 },
      { step: 45, loss: 2.0986, tokenAccuracy: 0.487 },
    ],
    bestStep: 40,
  },
  performance: { seconds: 3725, tokensPerSecond: 812.4, secondsPerStep: 4.21, peakMemoryBytes: 5_400_000_000 },
  environment: {
    hardware: 'AMD EPYC 9454, 48 cores',
    threads: 48,
    backend: 'ort',
    precision: 'float32',
    os: 'Linux 6.8',
    node: '20.20.0',
    packages: { '@mirastral/lora': '0.1.0' },
  },
  segments: [
    { firstStep: 1, lastStep: 30, seconds: 2500, endedBy: 'time budget' },
    { firstStep: 31, lastStep: 45, seconds: 1225, endedBy: 'finished' },
  ],
  purpose: { title: 'A listening helper', tags: ['mental-health'], crisisContacts: ['Norway: 116 123'] },
}
