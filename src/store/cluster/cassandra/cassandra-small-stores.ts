/**
 * Cursors, settings, erasures and idempotency keys.
 *
 * Plain overwrites (cursors, settings) are ordered by the clocks of the Cassandra nodes that take them: where those are skewed,
 * one that follows within the skew through another node may lose. A cursor that stays behind costs work: slices are packed again,
 * onto the same rows. Settings are written once. Erasures and used keys cannot lose by it: every stamp is a row, and the
 * greatest counts.
 */
import { KeyedLock } from '../../../core/keyed-lock.js'
import { addErasure, joinErased, pageErasures, plainPart, type ErasedScope } from '../../erased-scope.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CursorStore, ErasedPart, Erasure, ErasureStore, IdempotencyRecord, IdempotencyStore, SettingsStore } from '../../small-stores.js'
import type { CassandraClient, Row } from './cassandra-client.js'
import { allSalts, saltOf, saltPageRows } from './salted.js'
import { tidyUp, writeSettled } from './settled-write.js'

/** Stands for the whole tenant where a device is named. */
const wholeTenant = ''

/** No limit of a part's range; event times are not negative. */
const unbounded = -1

function partKey ({ stamp, metric, fromTs, toTs }: ErasedPart): unknown[] {
  return [stamp, metric ?? '', fromTs ?? unbounded, toTs ?? unbounded]
}

function partOf ({ stamp, metric, from_ts: fromTs, to_ts: toTs }: Row): ErasedPart {
  return plainPart({
    stamp: stamp as number,
    metric: metric === '' ? null : metric as string,
    ...(fromTs === unbounded ? {} : { fromTs: fromTs as number }),
    ...(toTs === unbounded ? {} : { toTs: toTs as number })
  })
}

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
  async putErasure (erasure: Erasure): Promise<void> {
    const { tenant, device, stamp } = erasure
    const scope = device ?? wholeTenant
    const stored = await this.#scopeOf(tenant, scope)
    const next = addErasure(stored, erasure)
    if (next === stored) return
    await this.#client.write('INSERT INTO erasure_by_tenant (tenant, salt, device) VALUES (?, ?, ?)', [tenant, saltOf(scope), scope])
    // What the new one contains says nothing more, and goes when it is there.
    const gone = stored.parts.filter(part => !next.parts.includes(part))
    if (next.stamp > stored.stamp) {
      await this.#client.write('INSERT INTO erasure (tenant, device, stamp) VALUES (?, ?, ?)', [tenant, scope, stamp])
      // Smaller stamps come after the one that is read, so what is left of them costs no reader anything.
      await tidyUp(this.#client.write('DELETE FROM erasure WHERE tenant = ? AND device = ? AND stamp < ?', [tenant, scope, stamp]))
    } else {
      await this.#client.write('INSERT INTO erasure_part (tenant, device, stamp, metric, from_ts, to_ts) VALUES (?, ?, ?, ?, ?, ?)', [tenant, scope, ...partKey(erasure)])
    }
    for (const part of gone) {
      await tidyUp(this.#client.write('DELETE FROM erasure_part WHERE tenant = ? AND device = ? AND stamp = ? AND metric = ? AND from_ts = ? AND to_ts = ?', [tenant, scope, ...partKey(part)]))
    }
  }

  async erasedParts (tenant: string, device: string): Promise<readonly ErasedPart[]> {
    const [stamp, own] = await Promise.all([this.#erasedBefore(tenant, wholeTenant), this.#scopeOf(tenant, device)])
    return joinErased({ stamp, parts: [] }, own)
  }

  async erasedBefore (tenant: string, device: string): Promise<number> {
    const [whole, own] = await Promise.all([this.#erasedBefore(tenant, wholeTenant), this.#erasedBefore(tenant, device)])
    return Math.max(whole, own)
  }

  async listErasures (tenant: string, cursor: string | null, limit: number): Promise<Page<Erasure>> {
    return await pageErasures(tenant, cursor, limit, async (from, visit) => {
      const sources = allSalts.map(salt => this.#client.stream('SELECT device FROM erasure_by_tenant WHERE tenant = ? AND salt = ? AND device >= ?', [tenant, salt, from], saltPageRows(limit)))
      for await (const row of mergeOrdered(sources, (a, b) => (a.device as string) < (b.device as string))) {
        const device = row.device as string
        if (!visit(device, await this.#scopeOf(tenant, device))) return
      }
    })
  }

  /** Parts that a whole erasure contains, left by a crash, count for nothing. */
  async #scopeOf (tenant: string, scope: string): Promise<ErasedScope> {
    const [stamp, rows] = await Promise.all([
      this.#erasedBefore(tenant, scope),
      scope === wholeTenant ? [] : this.#client.read('SELECT stamp, metric, from_ts, to_ts FROM erasure_part WHERE tenant = ? AND device = ?', [tenant, scope])
    ])
    return { stamp, parts: rows.map(partOf).filter(part => part.stamp > stamp) }
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
