export { denseParameters } from './dense.js'
export type { LoraConfig, LoraInit, LoraOptions } from './config.js'
export { loraScaling, parseLoraConfig } from './config.js'
export { formatAdapterConfig, parseAdapterConfig, PEFT_FORMAT_VERSION } from './config-json.js'
export type { LoraErrorCode } from './errors.js'
export { LoraError } from './errors.js'
export type { Adapter, AdapterTensor, AdapterTensors, InitialAdapter, InitOptions } from './init.js'
export { initializeAdapter, plainLora, splitPlainLora } from './init.js'
export type { LoraPart } from './keys.js'
export { adapterKey, adapterTensors, layerTensors, parameterOfKey } from './keys.js'
export type { LoraLayer, LoraPlan, ModuleInfo } from './targets.js'
export { planLora } from './targets.js'
export type { LoraContext, LoraGraphOptions } from './resolver.js'
export { adapterName, subtractedName, withLora } from './resolver.js'
export { modulesOfCheckpoint, modulesOfModel } from './modules.js'
export type { AdapterDtype, LoadedAdapter } from './weights.js'
export {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  loadAdapter,
  readAdapterConfig,
  reopenAdapter,
  saveAdapter,
} from './weights.js'
export type { FloatDtype, MergeRounding } from './merge-layer.js'
export type { MergeOptions, MergeReport } from './merge.js'
export { mergeAdapter } from './merge.js'
export type { GgufBase, GgufOptions, ModelfileOptions } from './gguf.js'
export { formatModelfile, writeGgufAdapter } from './gguf.js'
export type { Evidence, EvidenceInput } from './evidence.js'
export { parseEvidence } from './evidence.js'
export type { CardOptions } from './card.js'
export { formatModelCard } from './card.js'
export type { PublishOptions, PublishReport } from './publish.js'
export { publishAdapter, publishProblem } from './publish.js'
export type { BackgroundOptions, EnqueueOptions, PublishOutcome } from './publish-background.js'
export { BackgroundPublisher, PUBLISHING_PREFIX } from './publish-background.js'
export type { BackOff } from './retry.js'
