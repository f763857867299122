import { PagedMemory } from './paged-memory.js'
import { TokenCache } from './token-cache.js'
import { TokenSpool } from './token-spool.js'

/** Where the rows of one preparation and what is known of them lie: a bounded part in memory, the rest on disk. */
export class Storage {
  readonly memory = new PagedMemory()
  readonly forTokens: { readonly cache: TokenCache | undefined; readonly spool: TokenSpool }

  private constructor(cache: TokenCache | undefined, spool: TokenSpool) {
    this.forTokens = { cache, spool }
  }

  /** @throws DataError MIRASTRAL_DATA_OPTION where the cache's folder cannot be made. */
  static async create(cacheDir: string | undefined): Promise<Storage> {
    const spool = new TokenSpool()
    return new Storage(cacheDir === undefined ? undefined : await TokenCache.create(cacheDir, spool), spool)
  }

  close(): void {
    this.forTokens.cache?.close()
    this.forTokens.spool.close()
    this.memory.close()
  }
}
