export { latestPromptVersion, techniquePrompt, techniquePrompts } from './technique-prompts.js'
export type { TechniquePrompt, TechniquePromptOptions } from './technique-prompts.js'
