/** Runs of `size` neighbouring words; fewer words have none. */
export function ngramsOf(words: readonly string[], size: number): string[] {
  return Array.from({ length: Math.max(0, words.length - size + 1) }, (_, i) => words.slice(i, i + size).join(' '))
}
