/**
 * Documents: a row each, written conditionally alone, so that of several who write on the same revision one succeeds. Every write carries
 * a name of its own, by which a writer whose answer was lost knows its row again.
 */
import { randomUUID } from 'node:crypto'
import { checkDocument, type DocumentCollection, type DocumentStore, type StoredDocument } from '../../document-store.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CassandraClient, Row } from './cassandra-client.js'
import { allSalts, decodeCursor, pageOf, saltOf, saltPageRows } from './salted.js'
import { writeSettled } from './settled-write.js'

const key = 'collection = ? AND tenant = ? AND salt = ?'
const select = `SELECT id, revision, body FROM document WHERE ${key} AND id = ?`
const insert = 'INSERT INTO document (collection, tenant, salt, id, revision, writer, body) VALUES (?, ?, ?, ?, 1, ?, ?) IF NOT EXISTS'
// The second condition always holds: it is there because Cassandra answers with the columns that the conditions name.
const update = `UPDATE document SET revision = ?, writer = ?, body = ? WHERE ${key} AND id = ? IF revision = ? AND writer != ?`
const remove = `DELETE FROM document WHERE ${key} AND id = ? IF revision = ?`
const listFrom = `SELECT id, revision, body FROM document WHERE ${key} AND id >= ? AND id < ?`
const listAfter = `SELECT id, revision, body FROM document WHERE ${key} AND id > ? AND id < ?`

/** Behind every character that an id may have. */
const behindAll = '\x7f'
/** Tenants that are known to be listed; the set begins anew when it is full. */
const listedMax = 10_000

export class CassandraDocuments implements DocumentStore {
  readonly #client: CassandraClient
  readonly #listed = new Set<string>()

  constructor (client: CassandraClient) {
    this.#client = client
  }

  async getDocument (collection: DocumentCollection, tenant: string, id: string): Promise<StoredDocument | null> {
    const [row] = await this.#client.read(select, [collection, tenant, saltOf(id), id])
    return row === undefined ? null : documentOf(row)
  }

  /** @throws TwinfoldError `invalid_request` for an id or body beyond the limits, `store_unavailable`: whether it was written is not known. */
  async putDocument (collection: DocumentCollection, tenant: string, id: string, body: string, expected: number): Promise<boolean> {
    checkDocument(id, body)
    await this.#list(collection, tenant)
    const writer = randomUUID()
    const at = [collection, tenant, saltOf(id), id]
    const { applied } = await writeSettled(this.#client, expected === 0
      ? { cql: insert, parameters: [...at, writer, body] }
      : { cql: update, parameters: [expected + 1, writer, body, ...at, expected, writer] }, row => row?.writer === writer)
    return applied
  }

  /** True too where another deleted it while the answer to this deletion was lost. */
  async deleteDocument (collection: DocumentCollection, tenant: string, id: string, expected: number): Promise<boolean> {
    if (expected < 1) return false
    const { applied } = await writeSettled(this.#client, { cql: remove, parameters: [collection, tenant, saltOf(id), id, expected] }, row => (row?.revision ?? null) === null)
    return applied
  }

  async listDocuments (collection: DocumentCollection, tenant: string, prefix: string, cursor: string | null, limit: number): Promise<Page<StoredDocument>> {
    const after = decodeCursor(cursor)
    const end = prefix + behindAll
    const sources = allSalts.map(salt => after === null || after < prefix
      ? this.#client.stream(listFrom, [collection, tenant, salt, prefix, end], saltPageRows(limit))
      : this.#client.stream(listAfter, [collection, tenant, salt, after, end], saltPageRows(limit)))
    return await pageOf({
      rows: mergeOrdered(sources, (a, b) => (a.id as string) < (b.id as string)),
      idOf: row => row.id as string,
      itemOf: async row => documentOf(row),
      limit
    })
  }

  async documentTenants (collection: DocumentCollection): Promise<readonly string[]> {
    const tenants: string[] = []
    for await (const row of this.#client.stream('SELECT tenant FROM document_tenant WHERE collection = ?', [collection], 1000)) tenants.push(row.tenant as string)
    return tenants
  }

  async #list (collection: DocumentCollection, tenant: string): Promise<void> {
    const name = `${collection} ${tenant}`
    if (this.#listed.has(name)) return
    await this.#client.write('INSERT INTO document_tenant (collection, tenant) VALUES (?, ?)', [collection, tenant])
    if (this.#listed.size >= listedMax) this.#listed.clear()
    this.#listed.add(name)
  }
}

function documentOf (row: Row): StoredDocument {
  return { id: row.id as string, revision: row.revision as number, body: row.body as string }
}
