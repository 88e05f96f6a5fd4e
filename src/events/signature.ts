/**
 * Signatures of webhook deliveries after the Standard Webhooks specification (1.0.0, "Signature scheme"), so that its libraries verify
 * them: HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`. With two active secrets there are two signatures.
 */
import { createHmac } from 'node:crypto'

const prefix = 'whsec_'
const keyBytesMin = 24
const keyBytesMax = 64

/** A secret as it is shown: `whsec_` and 32 random bytes in base64. */
export function newSecret (random: (bytes: number) => Buffer): string {
  return prefix + random(32).toString('base64')
}

/** Is it `whsec_` and 24 to 64 bytes in base64? */
export function isSecret (secret: string): boolean {
  const text = secret.slice(prefix.length)
  if (!secret.startsWith(prefix) || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return false
  const bytes = Buffer.from(text, 'base64')
  return bytes.length >= keyBytesMin && bytes.length <= keyBytesMax && bytes.toString('base64') === text
}

/** @param timestampS seconds since the epoch, as in the header webhook-timestamp */
export function signatures (secrets: readonly string[], id: string, timestampS: number, body: string | Buffer): string {
  return secrets.map(secret => {
    const key = Buffer.from(secret.slice(prefix.length), 'base64')
    return `v1,${createHmac('sha256', key).update(`${id}.${timestampS}.`).update(body).digest('base64')}`
  }).join(' ')
}
