import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { z } from 'zod'
import { InferError } from '../errors.js'

/** The cost of deriving a key. The default takes about half a second and 128 MiB, as OWASP advises for scrypt. */
export interface ScryptCost {
  readonly N: number
  readonly r: number
  readonly p: number
}

export const defaultScryptCost: ScryptCost = { N: 2 ** 17, r: 8, p: 1 }

const base64 = z.base64()
const powerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n))

/** Costs above these would let a manipulated file stop the program for minutes. */
const sealedSchema = z.object({
  format: z.literal('mirastral-profile'),
  version: z.literal(1),
  kdf: z.object({
    name: z.literal('scrypt'),
    N: z.int().min(2).max(2 ** 20).refine(powerOfTwo), // prettier-ignore
    r: z.int().min(1).max(16),
    p: z.int().min(1).max(4),
    salt: base64,
  }),
  cipher: z.object({ name: z.literal('aes-256-gcm'), iv: base64, tag: base64 }),
  data: base64,
})
type Sealed = z.infer<typeof sealedSchema>

const profileError = (message: string): InferError => new InferError('MIRASTRAL_INFER_PROFILE', `profile: ${message}`)

/** A key and what it was derived with. */
export interface ProfileKey {
  readonly key: Buffer
  readonly kdf: Sealed['kdf']
}

/** A new key from a passphrase, with a fresh salt. */
export async function newProfileKey(passphrase: string, cost: ScryptCost): Promise<ProfileKey> {
  const kdf = { name: 'scrypt' as const, ...cost, salt: randomBytes(16).toString('base64') }
  return { key: await deriveKey(passphrase, kdf), kdf }
}

function deriveKey(passphrase: string, kdf: Sealed['kdf']): Promise<Buffer> {
  const { N, r, p, salt } = kdf
  return new Promise((resolve, reject) => {
    const options = { N, r, p, maxmem: 128 * N * r + (1 << 20) }
    scrypt(passphrase.normalize('NFC'), Buffer.from(salt, 'base64'), 32, options, (error, key) => {
      if (error === null) resolve(key)
      else reject(new InferError('MIRASTRAL_INFER_PROFILE', `profile: ${error.message}`, { cause: error }))
    })
  })
}

/** Authenticated together with the text: nobody can lower the cost or swap the salt of a file unnoticed. */
const associatedData = (kdf: Sealed['kdf']): Buffer => Buffer.from(JSON.stringify(['mirastral-profile', 1, kdf]))

/** AES-256-GCM under a fresh nonce, as the text of a profile file. */
export function seal(plain: string, { key, kdf }: ProfileKey): string {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(associatedData(kdf))
  const data = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
  const sealed: Sealed = {
    format: 'mirastral-profile',
    version: 1,
    kdf,
    cipher: { name: 'aes-256-gcm', iv: iv.toString('base64'), tag: cipher.getAuthTag().toString('base64') },
    data: data.toString('base64'),
  }
  return `${JSON.stringify(sealed)}\n`
}

/** Opens what `seal` wrote. Throws `InferError` for a file of another kind, a wrong passphrase and changed bytes. */
export async function unseal(file: string, passphrase: string): Promise<{ plain: string; key: ProfileKey }> {
  const sealed = parseSealed(file)
  const key = await deriveKey(passphrase, sealed.kdf)
  const iv = Buffer.from(sealed.cipher.iv, 'base64')
  const tag = Buffer.from(sealed.cipher.tag, 'base64')
  if (iv.length !== 12 || tag.length !== 16) throw profileError('the file is damaged')
  const decipher = createDecipheriv('aes-256-gcm', key, iv).setAAD(associatedData(sealed.kdf)).setAuthTag(tag)
  try {
    const plain = Buffer.concat([decipher.update(sealed.data, 'base64'), decipher.final()])
    return { plain: plain.toString('utf8'), key: { key, kdf: sealed.kdf } }
  } catch {
    throw profileError('the passphrase is wrong, or the file was changed')
  }
}

function parseSealed(file: string): Sealed {
  try {
    return sealedSchema.parse(JSON.parse(file))
  } catch {
    throw profileError('the file is no profile of version 1, or it is damaged')
  }
}
