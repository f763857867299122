/** Whether a model's name is one of the Hub (`owner/name`) and not a path. */
export function isHubId(name: string): boolean {
  return /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(name) && !name.includes('..')
}

/** A model's name without the folders of this machine: Hub ids as they are, of a path only the last part. */
export function portableModelName(name: string): string {
  if (isHubId(name)) return name
  const parts = name.split(/[/\\]+/).filter((part) => part !== '' && part !== '.' && part !== '..')
  return parts.at(-1) ?? 'local-model'
}
