import type { Architecture } from './architecture.js'
import type { ConfigTraits } from './config.js'
import { parseConfig } from './config.js'
import { decoderParameters } from './parameters.js'

/** An architecture of the common kind: a pre-norm decoder with rotary attention and a gated MLP. */
export function decoder(traits: ConfigTraits): Architecture {
  return {
    modelType: traits.modelType,
    parseConfig: (json, who) => parseConfig(json, traits, who),
    parameters: decoderParameters,
  }
}
