const vowels = 'aeiou'

/** "takes", "taking", "took", "taken" of "take": English spelling rules and a table of the irregular verbs. */
export function inflections(verb: string, irregular: Readonly<Record<string, readonly string[]>>): string[] {
  return [...new Set([verb, thirdPerson(verb), gerund(verb), ...(irregular[verb] ?? [past(verb)])])]
}

function thirdPerson(verb: string): string {
  if (/(s|sh|ch|x|z|o)$/.test(verb)) return `${verb}es`
  return endsInConsonantY(verb) ? `${verb.slice(0, -1)}ies` : `${verb}s`
}

function gerund(verb: string): string {
  if (verb.endsWith('ie')) return `${verb.slice(0, -2)}ying`
  if (/[^eoy]e$/.test(verb)) return `${verb.slice(0, -1)}ing`
  return `${doubled(verb)}ing`
}

function past(verb: string): string {
  if (verb.endsWith('e')) return `${verb}d`
  return endsInConsonantY(verb) ? `${verb.slice(0, -1)}ied` : `${doubled(verb)}ed`
}

function endsInConsonantY(verb: string): boolean {
  return verb.endsWith('y') && !vowels.includes(verb.at(-2) ?? 'a')
}

/** A short verb in consonant, vowel, consonant doubles its last letter: stab, stabbing. */
function doubled(verb: string): string {
  return /^[^aeiou]*[aeiou][bdgklmnprt]$/.test(verb) ? verb + (verb.at(-1) ?? '') : verb
}
