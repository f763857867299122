/** How much of the rarer words two sentences share before they count as variants of one another. */
const shared = 0.55
/** Words in more sentences than this do not make two of them alike. */
const common = 300

/** A group number for each text: variants of one another, such as minimal pairs, have the same one. */
export function groupSentences(texts: readonly string[]): number[] {
  const bags = texts.map((text) => new Set(text.toLowerCase().match(/[a-z']+/g)))
  const holders = new Map<string, number[]>()
  bags.forEach((bag, i) => bag.forEach((word) => holders.set(word, [...(holders.get(word) ?? []), i])))
  const weight = (word: string): number => Math.log(texts.length / (holders.get(word)?.length ?? 1))
  const weights = bags.map((bag) => [...bag].reduce((sum, word) => sum + weight(word), 0))
  const parent = texts.map((_, i) => i)
  const root = (i: number): number => {
    let at = i
    while ((parent[at] ?? at) !== at) at = parent[at] ?? at
    return at
  }
  bags.forEach((bag, i) => {
    const overlap = new Map<number, number>()
    for (const word of bag) {
      const others = holders.get(word) ?? []
      if (others.length <= common)
        for (const other of others) if (other < i) overlap.set(other, (overlap.get(other) ?? 0) + weight(word))
    }
    for (const [other, sum] of overlap)
      if (sum > shared * Math.min(weights[i] ?? 0, weights[other] ?? 0)) parent[root(other)] = root(i)
  })
  return texts.map((_, i) => root(i))
}
