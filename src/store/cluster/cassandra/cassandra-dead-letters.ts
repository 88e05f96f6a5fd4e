/**
 * Dead letters, spread over hours of arrival and salts, newest first. Four kinds of rows, written from the last to the first:
 * the tenant (in a list of those that may have letters), the partitions it has, the letter's description, its payload. So
 * what can be seen is whole, and a crash leaves only what nobody sees until it is written again, or expires.
 *
 * Trimming removes the other way round, whole partitions where it can, else one range per partition; it never deletes single
 * rows. What comes late into an hour, older than what was trimmed from it, counts as trimmed: it is read by id, not listed.
 * Letters expire 30 days after they were written, whatever the bounds leave room for.
 */
import { TwinfoldError } from '../../../core/errors.js'
import type { DeadLetter, DeadLetterReason, DeadLetterStore } from '../../dead-letter-store.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { allSalts, decodeCursor, pageOf, saltOf } from './salted.js'

const usPerHour = 3600e6
/** Partitions that are read side by side: with 16 salts, one hour or several sparse ones. */
const partitionsAtOnce = 16
const rowsPerPage = 200
/** Bytes of one batch, by estimate. */
const batchBytesMax = 48 * 1024
/** Ids or batches of one call that are under way side by side. */
const looksAtOnce = 64
/** Tenants that are looked at side by side; each takes up to `partitionsAtOnce` reads. */
const tenantsAtOnce = 8

interface Partition {
  readonly hour: number
  readonly salt: number
  /** Letters up to this id are trimmed; '' for none. */
  readonly floor: string
}

/** A letter without its payload. */
interface Description {
  readonly letter: Omit<DeadLetter, 'payload'>
  readonly storedBytes: number
  readonly partition: Partition
}

const columns = 'id, stamp, reason, detail, device, source, multi_device, format, payload_bytes, stored_bytes'
const insertLetter = `INSERT INTO dead_letter (tenant, hour, salt, ${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
const insertPayload = 'INSERT INTO dead_letter_payload (tenant, hour, salt, id, payload) VALUES (?, ?, ?, ?, ?)'
const inPartition = 'WHERE tenant = ? AND hour = ? AND salt = ?'
/** A description goes before its payload: what can be seen is whole. */
const tables = ['dead_letter', 'dead_letter_payload'] as const

export class CassandraDeadLetters implements DeadLetterStore {
  readonly #client: CassandraClient

  constructor (client: CassandraClient) {
    this.#client = client
  }

  /** @throws TwinfoldError `internal` for an id that does not begin with its stamp. */
  async putDeadLetters (letters: readonly DeadLetter[]): Promise<void> {
    const payloads: PlacedStatement[] = []
    const descriptions: PlacedStatement[] = []
    const partitions = new Map<string, Statement>()
    const tenants = new Map<string, Statement>()
    for (const letter of letters) {
      const { tenant, id } = letter
      const place = placeOf(id)
      if (place === null) throw new TwinfoldError('internal', `dead letter '${id}' does not begin with a stamp`)
      const key = JSON.stringify([tenant, place.hour, place.salt])
      payloads.push({ key, bytes: 100 + letter.payload.length, statement: { cql: insertPayload, parameters: [tenant, place.hour, place.salt, id, Buffer.from(letter.payload)] } })
      descriptions.push({ key, bytes: 300 + letter.detail.length * 3, statement: { cql: insertLetter, parameters: [tenant, place.hour, place.salt, ...describe(letter)] } })
      partitions.set(key, { cql: 'INSERT INTO dead_letter_partition (tenant, hour, salt) VALUES (?, ?, ?)', parameters: [tenant, place.hour, place.salt] })
      tenants.set(tenant, { cql: 'INSERT INTO dead_letter_tenant (salt, tenant) VALUES (?, ?)', parameters: [saltOf(tenant), tenant] })
    }
    await this.#writeBatches(payloads)
    await this.#writeBatches(descriptions)
    await this.#client.writeAll(partitions.values())
    await this.#client.writeAll(tenants.values())
  }

  async listDeadLetters (tenant: string, filter: { reason?: DeadLetterReason, device?: string }, cursor: string | null, limit: number): Promise<Page<DeadLetter>> {
    return await pageOf({
      rows: filtered(this.#scan(tenant, decodeCursor(cursor)), filter),
      idOf: ({ letter }) => letter.id,
      itemOf: async description => await this.#withPayload(description),
      limit
    })
  }

  async getDeadLetter (tenant: string, id: string): Promise<DeadLetter | null> {
    const partition = placeOf(id)
    if (partition === null) return null
    const [row] = await this.#client.read(`SELECT ${columns} FROM dead_letter ${inPartition} AND id = ?`, [tenant, partition.hour, partition.salt, id])
    return row === undefined ? null : await this.#withPayload(descriptionOf(tenant, partition, row))
  }

  async deleteDeadLetters (tenant: string, ids: readonly string[]): Promise<number> {
    let removed = 0
    const distinct = [...new Set(ids)]
    for (let at = 0; at < distinct.length; at += looksAtOnce) {
      const present = await Promise.all(distinct.slice(at, at + looksAtOnce).map(async id => await this.#isThere(tenant, id) ? id : null))
      const some = present.filter(id => id !== null)
      for (const table of tables) {
        await this.#client.writeAll(some.map(id => {
          const { hour, salt } = placeOf(id) as Partition
          return { cql: `DELETE FROM ${table} ${inPartition} AND id = ?`, parameters: [tenant, hour, salt, id] }
        }))
      }
      removed += some.length
    }
    return removed
  }

  async trimDeadLetters (tenant: string, countMax: number, bytesMax: number): Promise<number> {
    let count = 0
    let bytes = 0
    let removed = 0
    let newestRemoved = ''
    for await (const { letter, storedBytes } of this.#scan(tenant, null)) {
      count++
      bytes += storedBytes
      // Once a letter does not fit, all older ones go too: what stays has no holes.
      if (count <= countMax && bytes <= bytesMax && removed === 0) continue
      if (removed++ === 0) newestRemoved = letter.id
    }
    if (removed > 0) await this.#removeUpTo(tenant, newestRemoved, count > removed)
    return removed
  }

  async deadLetterTenants (): Promise<readonly string[]> {
    const sources = allSalts.map(salt => this.#client.stream('SELECT tenant FROM dead_letter_tenant WHERE salt = ?', [salt], rowsPerPage))
    const tenants: string[] = []
    let some: string[] = []
    const look = async (): Promise<void> => {
      const present = await Promise.all(some.map(async tenant => await this.#hasLetters(tenant)))
      tenants.push(...some.filter((_, i) => present[i]))
      some = []
    }
    for await (const row of mergeOrdered(sources, (a, b) => (a.tenant as string) < (b.tenant as string))) {
      some.push(row.tenant as string)
      if (some.length === tenantsAtOnce) await look()
    }
    await look()
    return tenants
  }

  async #hasLetters (tenant: string): Promise<boolean> {
    for await (const _ of this.#scan(tenant, null)) return true
    return false
  }

  async #isThere (tenant: string, id: string): Promise<boolean> {
    const place = placeOf(id)
    if (place === null) return false
    return (await this.#client.read(`SELECT id FROM dead_letter ${inPartition} AND id = ?`, [tenant, place.hour, place.salt, id])).length > 0
  }

  /** Descriptions, newest first, older than the id. */
  async * #scan (tenant: string, before: string | null): AsyncGenerator<Description, void> {
    for await (const group of this.#partitions(tenant, before)) {
      yield * mergeOrdered(group.map(partition => this.#scanPartition(tenant, partition, before)), (a, b) => a.letter.id > b.letter.id)
    }
  }

  async * #scanPartition (tenant: string, partition: Partition, before: string | null): AsyncGenerator<Description, void> {
    const { hour, salt, floor } = partition
    const below = before === null ? '' : ' AND id < ?'
    const bounds = before === null ? [floor] : [floor, before]
    const rows = this.#client.stream(`SELECT ${columns} FROM dead_letter ${inPartition} AND id > ?${below}`, [tenant, hour, salt, ...bounds], rowsPerPage)
    for await (const row of rows) yield descriptionOf(tenant, partition, row)
  }

  /** The tenant's partitions that may hold letters older than the id, newest hour first, in groups of whole hours. */
  async * #partitions (tenant: string, before: string | null): AsyncGenerator<Partition[], void> {
    const newest = before === null ? null : placeOf(before)
    const rows = newest === null
      ? this.#client.stream('SELECT hour, salt, floor FROM dead_letter_partition WHERE tenant = ?', [tenant], rowsPerPage)
      : this.#client.stream('SELECT hour, salt, floor FROM dead_letter_partition WHERE tenant = ? AND hour <= ?', [tenant, newest.hour], rowsPerPage)
    let group: Partition[] = []
    for await (const row of rows) {
      const partition = { hour: row.hour as number, salt: row.salt as number, floor: row.floor as string | null ?? '' }
      if (group.length >= partitionsAtOnce && group[group.length - 1].hour !== partition.hour) {
        yield group
        group = []
      }
      group.push(partition)
    }
    if (group.length > 0) yield group
  }

  /**
   * Removes the letters up to the id: of its hour by range, of older hours with their partitions. What leads to a partition
   * goes before it: a crash in between leaves letters that nobody sees and that expire, and one that is put meanwhile writes
   * its way to it last, so it is not lost.
   * @param keepsHour whether younger letters may be in the hour.
   */
  async #removeUpTo (tenant: string, id: string, keepsHour: boolean): Promise<void> {
    const { hour } = placeOf(id) as Partition
    const partitions: Partition[] = []
    for await (const group of this.#partitions(tenant, id)) partitions.push(...group)
    const whole = partitions.filter(partition => partition.hour < hour || !keepsHour)
    const cut = partitions.filter(partition => partition.hour === hour && keepsHour)
    await this.#client.writeAll(whole.map(({ hour, salt }) => ({ cql: 'DELETE FROM dead_letter_partition WHERE tenant = ? AND hour = ? AND salt = ?', parameters: [tenant, hour, salt] })))
    await this.#client.writeAll(cut.map(({ hour, salt }) => ({ cql: 'UPDATE dead_letter_partition SET floor = ? WHERE tenant = ? AND hour = ? AND salt = ?', parameters: [id, tenant, hour, salt] })))
    for (const table of tables) {
      await this.#client.writeAll([
        ...whole.map(({ hour, salt }) => ({ cql: `DELETE FROM ${table} ${inPartition}`, parameters: [tenant, hour, salt] })),
        ...cut.map(({ hour, salt }) => ({ cql: `DELETE FROM ${table} ${inPartition} AND id <= ?`, parameters: [tenant, hour, salt, id] }))
      ])
    }
  }

  /** null where the letter was removed meanwhile. */
  async #withPayload ({ letter, partition }: Description): Promise<DeadLetter | null> {
    const [row] = await this.#client.read(`SELECT payload FROM dead_letter_payload ${inPartition} AND id = ?`, [letter.tenant, partition.hour, partition.salt, letter.id])
    return row === undefined ? null : { ...letter, payload: row.payload as Buffer }
  }

  async #writeBatches (statements: readonly PlacedStatement[]): Promise<void> {
    const batches = batchesOf(statements)
    for (let at = 0; at < batches.length; at += looksAtOnce) {
      await Promise.all(batches.slice(at, at + looksAtOnce).map(async batch => { await this.#client.writePartition(batch) }))
    }
  }
}

interface PlacedStatement {
  /** Names the partition. */
  readonly key: string
  readonly bytes: number
  readonly statement: Statement
}

/** Batches of one partition each, of at most `batchBytesMax`, but where one statement alone is more. */
function batchesOf (statements: readonly PlacedStatement[]): Statement[][] {
  const batches: Statement[][] = []
  const open = new Map<string, { batch: Statement[], bytes: number }>()
  for (const { key, bytes, statement } of statements) {
    let last = open.get(key)
    if (last === undefined || last.bytes + bytes > batchBytesMax) {
      last = { batch: [], bytes: 0 }
      open.set(key, last)
      batches.push(last.batch)
    }
    last.batch.push(statement)
    last.bytes += bytes
  }
  return batches
}

/**
 * The partition of a letter, by its id; null for what is no letter's id. With 16 salts, all that a tenant may keep of one hour
 * is some 4 MiB of payload a partition.
 */
function placeOf (id: string): Partition | null {
  const match = /^(\d{16})-/.exec(id)
  if (match === null) return null
  return { hour: Math.floor(Number(match[1]) / usPerHour), salt: saltOf(id), floor: '' }
}

function describe ({ id, stamp, reason, detail, device, source, multiDevice, format, payloadBytes, payload }: DeadLetter): unknown[] {
  return [id, stamp, reason, detail, device, source, multiDevice === true, format, payloadBytes, payload.length]
}

function descriptionOf (tenant: string, partition: Partition, row: Row): Description {
  return {
    letter: {
      tenant,
      id: row.id as string,
      stamp: row.stamp as number,
      reason: row.reason as DeadLetterReason,
      detail: row.detail as string,
      device: row.device as string,
      source: row.source as string,
      ...(row.multi_device === true ? { multiDevice: true } as const : {}),
      format: row.format as number,
      payloadBytes: row.payload_bytes as number
    },
    storedBytes: row.stored_bytes as number,
    partition
  }
}

async function * filtered (rows: AsyncIterable<Description>, filter: { reason?: DeadLetterReason, device?: string }): AsyncGenerator<Description, void> {
  for await (const row of rows) {
    if (filter.reason !== undefined && row.letter.reason !== filter.reason) continue
    if (filter.device !== undefined && row.letter.device !== filter.device) continue
    yield row
  }
}
