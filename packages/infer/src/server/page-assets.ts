import { readFile, readdir } from 'node:fs/promises'

export interface PageAssets {
  /** The page; `{{nonce}}` stands for the nonce of a response. */
  readonly html: string
  /** The other files by name. */
  readonly files: ReadonlyMap<string, { readonly type: string; readonly text: string }>
}

const types: Readonly<Record<string, string>> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml; charset=utf-8',
}

/** Reads the page's files, which lie in the folder `page` beside this module, in the sources as in the built package. */
export async function loadPageAssets(): Promise<PageAssets> {
  const folder = new URL('./page/', import.meta.url)
  const files = new Map<string, { type: string; text: string }>()
  for (const name of await readdir(folder)) {
    const type = types[name.split('.').at(-1) ?? '']
    if (type !== undefined) files.set(name, { type, text: await readFile(new URL(name, folder), 'utf8') })
  }
  return { html: await readFile(new URL('index.html', folder), 'utf8'), files }
}

/**
 * Nothing is loaded but what carries the nonce or comes from this server, nothing is sent elsewhere, and text can never
 * become markup or code (Trusted Types without any policy).
 */
export function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ')
}
