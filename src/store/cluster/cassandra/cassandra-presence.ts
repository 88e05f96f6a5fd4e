/**
 * Presence: plain writes, none of them conditional. Devices of a tenant share partitions by salt, so that a hundred thousand devices that
 * come back at once are some hundreds of batches and not as many statements.
 */
import { hash32 } from '../../../core/ids.js'
import { inParallel } from '../../../core/in-parallel.js'
import { presenceSlotsMax, type Connected, type Disconnected, type PresenceBoot, type PresenceRow, type PresenceSlot, type PresenceStore, type SlotEnd } from '../../presence-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { groupBy } from './cassandra-raw-keys.js'
import { tidyUp } from './settled-write.js'

const putSlot = 'INSERT INTO presence (tenant, salt, device, node, connected) VALUES (?, ?, ?, ?, ?)'
const putOpen = 'INSERT INTO presence_by_boot (boot, salt, tenant, device, connection, connected) VALUES (?, ?, ?, ?, ?, ?)'
const dropAllOpen = 'DELETE FROM presence_by_boot WHERE boot = ? AND salt = ? AND tenant = ? AND device = ?'
const dropOpen = `${dropAllOpen} AND connection = ?`
const putEnded = 'INSERT INTO presence (tenant, salt, device, node, ended) VALUES (?, ?, ?, ?, ?)'
const putLost = 'INSERT INTO presence (tenant, salt, device, node, lost) VALUES (?, ?, ?, ?, ?)'
const putHeard = 'INSERT INTO presence (tenant, salt, device, node, activity) VALUES (?, ?, ?, ?, ?)'
const select = 'SELECT device, node, connected, ended, lost, activity FROM presence WHERE tenant = ? AND salt = ? AND device IN ?'
const dropSlot = 'DELETE FROM presence WHERE tenant = ? AND salt = ? AND device = ? AND node = ?'
const dropDevice = 'DELETE FROM presence WHERE tenant = ? AND salt = ? AND device = ?'
const selectOpen = 'SELECT connected FROM presence_by_boot WHERE boot = ? AND salt = ?'
const putAlive = 'INSERT INTO presence_boots (shelf, boot, node, alive_at) VALUES (0, ?, ?, ?)'
const putSwept = 'INSERT INTO presence_boots (shelf, boot, swept) VALUES (0, ?, ?)'
const putBoot = 'INSERT INTO presence_boots (shelf, boot, node, alive_at, swept) VALUES (0, ?, ?, ?, ?)'
const selectBoots = 'SELECT boot, node, alive_at, swept FROM presence_boots WHERE shelf = 0'
const dropBoot = 'DELETE FROM presence_boots WHERE shelf = 0 AND boot = ?'

/** Part of the key layout: it never changes. */
const saltCount = 64
/** Rows of one batch: of 900 bytes at most, with the longest ids. */
const rowsPerBatch = 64
const devicesPerRead = 100
const rowsPerPage = 1000

interface Write extends Statement { readonly partition: string }

function saltOf (device: string): number {
  const hash = hash32(device)
  return (hash ^ (hash >>> 16)) & (saltCount - 1)
}

export class CassandraPresence implements PresenceStore {
  readonly #client: CassandraClient

  constructor (client: CassandraClient) {
    this.#client = client
  }

  async putConnected (rows: readonly Connected[]): Promise<void> {
    const bodies = rows.map(row => JSON.stringify(row))
    const open = rows.map(({ tenant, device, bootId, connection }, i): Write => {
      const salt = saltOf(device)
      return { partition: `b ${bootId} ${salt}`, cql: putOpen, parameters: [bootId, salt, tenant, device, connection, bodies[i]] }
    })
    await this.#writeAll([...open, ...slotWrites(putSlot, rows, i => bodies[i])])
  }

  async putDisconnected (rows: readonly SlotEnd[]): Promise<void> { await this.#end(putEnded, rows) }

  async putLost (rows: readonly SlotEnd[]): Promise<void> { await this.#end(putLost, rows) }

  async dropConnections (rows: readonly SlotEnd[]): Promise<void> { await this.#writeAll(rows.map(dropWrite)) }

  async putActivity (node: string, rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void> {
    await this.#writeAll(slotWrites(putHeard, rows.map(row => ({ ...row, node })), i => rows[i].at))
  }

  async getPresence (tenant: string, devices: readonly string[]): Promise<readonly PresenceRow[]> {
    const found = new Map<string, Row[]>()
    const reads: { salt: number, some: readonly string[] }[] = []
    for (const [salt, group] of groupBy([...new Set(devices)], device => String(saltOf(device)))) {
      for (let from = 0; from < group.length; from += devicesPerRead) reads.push({ salt: Number(salt), some: group.slice(from, from + devicesPerRead) })
    }
    await inParallel(reads, async ({ salt, some }) => {
      for await (const row of this.#client.stream(select, [tenant, salt, some], rowsPerPage)) {
        const rows = found.get(row.device as string)
        if (rows === undefined) found.set(row.device as string, [row])
        else rows.push(row)
      }
    })
    return devices.map(device => this.#rowOf(tenant, device, found.get(device) ?? []))
  }

  async putPresenceBoot ({ bootId, node, aliveAt, swept }: Parameters<PresenceStore['putPresenceBoot']>[0]): Promise<void> {
    if (swept === undefined) await this.#client.write(putAlive, [bootId, node, aliveAt])
    else await this.#client.write(putBoot, [bootId, node, aliveAt, swept])
  }

  async putPresenceSwept (bootId: string, swept: PresenceBoot['swept']): Promise<void> { await this.#client.write(putSwept, [bootId, swept]) }

  async presenceBoots (): Promise<readonly PresenceBoot[]> {
    const rows = await this.#client.read(selectBoots, [])
    return rows.map(row => ({ bootId: row.boot as string, node: row.node as string, aliveAt: row.alive_at as number, swept: row.swept as PresenceBoot['swept'] | null ?? 'no' })).filter(({ node }) => node !== null)
  }

  async deletePresenceBoot (bootId: string): Promise<void> { await this.#client.write(dropBoot, [bootId]) }

  async * connectionsOf (bootId: string): AsyncGenerator<Connected, void> {
    for (let salt = 0; salt < saltCount; salt++) {
      for await (const row of this.#client.stream(selectOpen, [bootId, salt], rowsPerPage)) yield JSON.parse(row.connected as string) as Connected
    }
  }

  async deletePresence (tenant: string, device: string): Promise<void> {
    const salt = saltOf(device)
    const rows = await this.#client.read(select, [tenant, salt, [device]])
    const boots = new Set(rows.filter(row => row.connected !== null).map(row => (JSON.parse(row.connected as string) as Connected).bootId))
    await this.#client.writeAll([...boots].map(boot => ({ cql: dropAllOpen, parameters: [boot, salt, tenant, device] })))
    await this.#client.write(dropDevice, [tenant, salt, device])
  }

  #rowOf (tenant: string, device: string, rows: readonly Row[]): PresenceRow {
    const slots = rows.map(slotOf).filter(slot => slot !== null).sort((a, b) => b.connected.at - a.connected.at)
    const activityAt = rows.reduce((latest, row) => Math.max(latest, row.activity as number | null ?? 0), 0)
    // Nodes whose names never come back leave slots behind; those that ended are taken away when somebody looks.
    const surplus = slots.slice(presenceSlotsMax).filter(slot => slot.disconnected !== null)
    for (const { connected: { node } } of surplus) void tidyUp(this.#client.write(dropSlot, [tenant, saltOf(device), device, node])).catch(() => {})
    return { tenant, device, slots: slots.slice(0, presenceSlotsMax), activityAt }
  }

  async #end (cql: string, rows: readonly SlotEnd[]): Promise<void> {
    const ended = slotWrites(cql, rows, i => {
      const { node: _node, bootId: _bootId, ...end } = rows[i]
      return JSON.stringify(end)
    })
    await this.#writeAll([...ended, ...rows.map(dropWrite)])
  }

  async #writeAll (writes: readonly Write[]): Promise<void> {
    const batches: Statement[][] = []
    for (const group of groupBy(writes, ({ partition }) => partition).values()) {
      for (let from = 0; from < group.length; from += rowsPerBatch) batches.push(group.slice(from, from + rowsPerBatch))
    }
    await inParallel(batches, async batch => {
      if (batch.length === 1) await this.#client.write(batch[0].cql, batch[0].parameters)
      else await this.#client.writePartition(batch)
    })
  }
}

/** A write for each slot, of the last row given: within a batch all writes have one time, and of two to one slot the greater would count. */
function slotWrites (cql: string, rows: readonly { readonly tenant: string, readonly device: string, readonly node: string }[], valueOf: (index: number) => string | number): Write[] {
  const last = new Map<string, number>()
  rows.forEach(({ tenant, device, node }, i) => { last.set(`${tenant} ${device} ${node}`, i) })
  return [...last.values()].map(i => {
    const { tenant, device, node } = rows[i]
    const salt = saltOf(device)
    return { partition: `d ${tenant} ${salt}`, cql, parameters: [tenant, salt, device, node, valueOf(i)] }
  })
}

function dropWrite ({ tenant, device, bootId, connection }: SlotEnd): Write {
  const salt = saltOf(device)
  return { partition: `b ${bootId} ${salt}`, cql: dropOpen, parameters: [bootId, salt, tenant, device, connection] }
}

function slotOf (row: Row): PresenceSlot | null {
  if (row.connected === null) return null
  const connected = JSON.parse(row.connected as string) as Connected
  const ends = [row.ended, row.lost].filter(end => end !== null).map(end => JSON.parse(end as string) as Disconnected)
  return { connected, disconnected: ends.find(end => end.connection === connected.connection) ?? null }
}
