/**
 * Documents in `meta`, on stable storage. The store that owns the directory is the only writer, so a condition is a look under a lock.
 */
import { TwinfoldError } from '../../core/errors.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { checkDocument, type DocumentCollection, type DocumentStore, type StoredDocument } from '../document-store.js'
import type { Page } from '../registry.js'
import { after, rangeOf } from './key-bytes.js'
import { del, put, type Operation } from './level.js'
import type { Meta } from './meta.js'
import { metaKey, metaTables, textsOf } from './meta-keys.js'
import { keysWithJumps, type Row } from './scan.js'

const lineFeed = 0x0a

export class EmbeddedDocuments implements DocumentStore {
  readonly #meta: Meta
  readonly #writes: boolean
  readonly #locks = new KeyedLock()

  /** @param options.writes false in a store beside the owner's, which only reads. */
  constructor (meta: Meta, options: { writes: boolean }) {
    this.#meta = meta
    this.#writes = options.writes
  }

  async getDocument (collection: DocumentCollection, tenant: string, id: string): Promise<StoredDocument | null> {
    const value = await this.#meta.get(metaKey(metaTables.document, collection, tenant, id))
    return value === null ? null : documentOf(id, value)
  }

  /** @throws TwinfoldError `invalid_request` for an id or body beyond the limits, `internal` in a store that is not the owner's. */
  async putDocument (collection: DocumentCollection, tenant: string, id: string, body: string, expected: number): Promise<boolean> {
    checkDocument(id, body)
    const key = metaKey(metaTables.document, collection, tenant, id)
    return await this.#writeIf(key, expected, put(key, Buffer.from(`${expected + 1}\n${body}`)))
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async deleteDocument (collection: DocumentCollection, tenant: string, id: string, expected: number): Promise<boolean> {
    const key = metaKey(metaTables.document, collection, tenant, id)
    return expected > 0 && await this.#writeIf(key, expected, del(key))
  }

  async listDocuments (collection: DocumentCollection, tenant: string, prefix: string, cursor: string | null, limit: number): Promise<Page<StoredDocument>> {
    // The key of the prefix as an id, without its terminator: a prefix of the keys.
    const begin = metaKey(metaTables.document, collection, tenant, prefix).subarray(0, -1)
    return await this.#meta.page(begin, cursor, limit, rowOf)
  }

  async documentTenants (collection: DocumentCollection): Promise<readonly string[]> {
    const range = rangeOf(metaKey(metaTables.document, collection))
    const tenants: string[] = []
    await this.#meta.read(async database => {
      const jump = (key: Buffer): Buffer | null => textsOf(key)[1] === tenants.at(-1) ? after(metaKey(metaTables.document, collection, textsOf(key)[1])) : null
      for await (const key of keysWithJumps(database, range, jump)) tenants.push(textsOf(key)[1])
    })
    return tenants
  }

  async #writeIf (key: Buffer, expected: number, operation: Operation): Promise<boolean> {
    if (!this.#writes) throw new TwinfoldError('internal', 'only the store that owns the directory writes documents')
    return await this.#locks.run(key.toString('latin1'), async () => {
      const value = await this.#meta.get(key)
      if ((value === null ? 0 : documentOf('', value).revision) !== expected) return false
      await this.#meta.writeSynced([operation])
      return true
    })
  }
}

function rowOf ([key, value]: Row): StoredDocument {
  return documentOf(textsOf(key)[2], value)
}

function documentOf (id: string, value: Buffer): StoredDocument {
  const end = value.indexOf(lineFeed)
  return { id, revision: Number(value.toString('latin1', 0, end)), body: value.toString('utf8', end + 1) }
}
