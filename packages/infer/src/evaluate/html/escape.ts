const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Markup that may be put into a page as it is. Only `markup` and constants of ours make it. */
export class Markup {
  constructor(readonly text: string) {}
}

type Part = Markup | string | number

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
const partText = (part: Part): string => (part instanceof Markup ? part.text : escapeHtml(String(part)))

/** A template whose values are escaped unless they are markup themselves, so that forgetting is impossible. */
export function markup(strings: TemplateStringsArray, ...parts: readonly (Part | readonly Part[])[]): Markup {
  const texts = parts.map((part) => (Array.isArray(part) ? part : [part as Part]).map(partText).join(''))
  return new Markup(strings.map((s, i) => s + (texts[i] ?? '')).join(''))
}
