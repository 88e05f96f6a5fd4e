/**
 * Keys of the tables in `meta` (format 1), beside `pending` (keys.ts): version byte, table byte, then texts that end in 0x00.
 *
 *     tenant        id                              -> JSON
 *     device        tenant, id                      -> JSON
 *     gateway       tenant, gateway, device         -> nothing
 *     credential    hash                            -> JSON
 *     credentialId  owner, public id                -> hash            owner: tenant, or '' for the platform
 *     credentialOf  tenant, device, public id       -> hash
 *     plan          tenant, device                  -> JSON
 *     letter        tenant, id                      -> JSON without the payload
 *     payload       tenant, id                      -> payload
 *     cursor        journal, consumer               -> position
 *     erasure       tenant, device ('': all)        -> stamp, then JSON of erased parts where there are any
 *     job           tenant, id                      -> JSON
 *     jobOpen       tenant, id                      -> nothing
 *     jobCancel     tenant, id                      -> nothing
 *     setting       name                            -> UTF-8
 *     claim         name                            -> JSON (embedded-claims.ts)
 *     document      collection, tenant, id          -> revision, line feed, body
 *     sealRequest   shard, tenant, device, width, start, stamp (embedded-seal-requests.ts) -> nothing
 */
import { textKey } from './keys.js'
import { readText, skipText } from './key-bytes.js'

export const metaTables = {
  tenant: 0x40,
  device: 0x41,
  gateway: 0x42,
  credential: 0x43,
  credentialId: 0x44,
  credentialOf: 0x45,
  plan: 0x48,
  letter: 0x50,
  payload: 0x51,
  cursor: 0x58,
  erasure: 0x5a,
  job: 0x54,
  jobOpen: 0x55,
  jobCancel: 0x56,
  setting: 0x5c,
  idempotency: 0x60,
  claim: 0x64,
  document: 0x65,
  sealRequest: 0x66
} as const
export type MetaTable = typeof metaTables[keyof typeof metaTables]

/** A whole key, or a prefix: all rows whose first texts are these. `invalid_request` for texts that are not printable ASCII. */
export function metaKey (table: MetaTable, ...texts: readonly string[]): Buffer { return textKey(table, texts) }

/** The texts of a key. */
export function textsOf (key: Buffer): string[] {
  const texts: string[] = []
  for (let at = 2; at < key.length;) {
    const end = skipText(key, at)
    if (end === 0) break
    texts.push(readText(key, at, end))
    at = end
  }
  return texts
}

export function jsonValue (value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

export function parseJson<T> (value: Uint8Array): T {
  return JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString()) as T
}
