/** Counts by name. */
export type Tally = Record<string, number>

export function count(tally: Tally, name: string, by = 1): void {
  tally[name] = (tally[name] ?? 0) + by
}

export function addTally(into: Tally, from: Tally): void {
  for (const [name, by] of Object.entries(from)) count(into, name, by)
}
