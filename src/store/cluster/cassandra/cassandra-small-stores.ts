/**
 * Cursors, settings, erasures and idempotency keys.
 *
 * Plain overwrites (cursors, settings) are ordered by the clocks of the Cassandra nodes that take them: where those are skewed,
 * one that follows within the skew through another node may lose. A cursor that stays behind costs work: slices are packed again,
 * onto the same rows. Settings are written once. Erasures and used keys cannot lose by it: every stamp is a row, and the
 * greatest counts.
 */
import { KeyedLock } from '../../../core/keyed-lock.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CursorStore, Erasure, ErasureStore, IdempotencyRecord, IdempotencyStore, SettingsStore } from '../../small-stores.js'
import type { CassandraClient } from './cassandra-client.js'
import { allSalts, decodeCursor, pageOf, saltOf, saltPageRows } from './salted.js'
import { tidyUp, writeSettled } from './settled-write.js'

/** Stands for the whole tenant where a device is named. */
const wholeTenant = ''

export class CassandraSmallStores implements CursorStore, SettingsStore, ErasureStore, IdempotencyStore {
  readonly #client: CassandraClient
  readonly #locks = new KeyedLock()

  constructor (client: CassandraClient) {
    this.#client = client
  }

  async getCursor (journalId: string, consumer: string): Promise<number | null> {
    const [row] = await this.#client.read('SELECT position FROM journal_cursor WHERE journal = ? AND consumer = ?', [journalId, consumer])
    return row === undefined ? null : row.position as number
  }

  /** On stable storage whatever `sync` says. */
  async putCursor (journalId: string, consumer: string, position: number, _sync: boolean): Promise<void> {
    // The lock keeps the order of the calls: a later position never stands under an earlier one.
    await this.#locks.run(`${journalId} ${consumer}`, async () => {
      await this.#client.write('INSERT INTO journal_cursor (journal, consumer, position) VALUES (?, ?, ?)', [journalId, consumer, position])
    })
  }

  async getSetting (name: string): Promise<string | null> {
    const [row] = await this.#client.read('SELECT value FROM setting WHERE name = ?', [name])
    return row === undefined ? null : row.value as string
  }

  async putSetting (name: string, value: string): Promise<void> {
    await this.#client.write('INSERT INTO setting (name, value) VALUES (?, ?)', [name, value])
  }

  /** The list's row first: a crash leaves a row that leads nowhere, never an erasure that is not listed. */
  async putErasure ({ tenant, device, stamp }: Erasure): Promise<void> {
    const scope = device ?? wholeTenant
    await this.#client.write('INSERT INTO erasure_by_tenant (tenant, salt, device) VALUES (?, ?, ?)', [tenant, saltOf(scope), scope])
    await this.#client.write('INSERT INTO erasure (tenant, device, stamp) VALUES (?, ?, ?)', [tenant, scope, stamp])
    // Smaller stamps say nothing more. They come after the one that is read, so what is left of them costs no reader anything.
    await tidyUp(this.#client.write('DELETE FROM erasure WHERE tenant = ? AND device = ? AND stamp < ?', [tenant, scope, stamp]))
  }

  async erasedBefore (tenant: string, device: string): Promise<number> {
    const [whole, own] = await Promise.all([this.#erasedBefore(tenant, wholeTenant), this.#erasedBefore(tenant, device)])
    return Math.max(whole, own)
  }

  async listErasures (tenant: string, cursor: string | null, limit: number): Promise<Page<Erasure>> {
    const after = decodeCursor(cursor)
    const sources = allSalts.map(salt => after === null
      ? this.#client.stream('SELECT device FROM erasure_by_tenant WHERE tenant = ? AND salt = ?', [tenant, salt], saltPageRows(limit))
      : this.#client.stream('SELECT device FROM erasure_by_tenant WHERE tenant = ? AND salt = ? AND device > ?', [tenant, salt, after], saltPageRows(limit)))
    return await pageOf({
      rows: mergeOrdered(sources, (a, b) => (a.device as string) < (b.device as string)),
      idOf: row => row.device as string,
      itemOf: async (row): Promise<Erasure | null> => {
        const device = row.device as string
        const stamp = await this.#erasedBefore(tenant, device)
        return stamp === 0 ? null : { tenant, device: device === wholeTenant ? null : device, stamp }
      },
      limit
    })
  }

  async #erasedBefore (tenant: string, scope: string): Promise<number> {
    const [row] = await this.#client.read('SELECT stamp FROM erasure WHERE tenant = ? AND device = ? LIMIT 1', [tenant, scope])
    return row === undefined ? 0 : row.stamp as number
  }

  async putIdempotency (records: readonly IdempotencyRecord[]): Promise<void> {
    const cql = 'INSERT INTO idempotency (tenant, key, stamp, fingerprint) VALUES (?, ?, ?, ?)'
    await this.#client.writeAll(records.map(({ tenant, key, stamp, fingerprint }) => ({ cql, parameters: [tenant, key, stamp, fingerprint] })))
  }

  /** The newest use of the key. */
  async getIdempotency (tenant: string, key: string): Promise<IdempotencyRecord | null> {
    const [row] = await this.#client.read('SELECT stamp, fingerprint FROM idempotency WHERE tenant = ? AND key = ? LIMIT 1', [tenant, key])
    return row === undefined ? null : { tenant, key, fingerprint: row.fingerprint as string, stamp: row.stamp as number }
  }

  /** Nothing to do: every row expires 24 hours after it was written. */
  async dropIdempotencyBefore (_stamp: number): Promise<void> {}

  /** After an unknown outcome the key is asked for again: whatever record holds it then, holds it on every node. */
  async claimIdempotency (record: IdempotencyRecord): Promise<IdempotencyRecord> {
    const { tenant, key, stamp, fingerprint } = record
    return await this.#locks.run(`claim ${tenant} ${key}`, async () => {
      const { applied, row } = await writeSettled(this.#client, {
        cql: 'INSERT INTO idempotency_claim (tenant, key, stamp, fingerprint) VALUES (?, ?, ?, ?) IF NOT EXISTS',
        parameters: [tenant, key, stamp, fingerprint]
      }, () => false)
      return applied || row === null ? record : { tenant, key, fingerprint: row.fingerprint as string, stamp: row.stamp as number }
    })
  }
}
