/**
 * Presence in a database of its own, written in batches, not synced: it survives SIGKILL, and a power loss takes the last seconds.
 */
import { inParallel } from '../../core/in-parallel.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import type { Connected, Disconnected, PresenceBoot, PresenceRow, PresenceSlot, PresenceStore, SlotEnd } from '../presence-store.js'
import { presenceSlotsMax } from '../presence-store.js'
import type { DatabasePool } from './database-pool.js'
import { presenceName } from './filenames.js'
import { rangeOf } from './key-bytes.js'
import { del, put, type Operation } from './level.js'
import { jsonValue, parseJson, textsOf } from './meta-keys.js'
import { presenceKey, presenceTables as tables } from './presence-keys.js'
import { readRows, scanRows } from './scan.js'

/** Operations of one batch; a batch holds LevelDB's lock for some milliseconds. */
const batchOperationsMax = 2000

interface Parts { connected?: Connected, ended?: Disconnected, lost?: Disconnected }

export class EmbeddedPresence implements PresenceStore {
  readonly #pool: DatabasePool
  readonly #boots = new KeyedLock()

  constructor (pool: DatabasePool) {
    this.#pool = pool
  }

  async putConnected (rows: readonly Connected[]): Promise<void> {
    await this.#write(rows.flatMap(row => {
      const { tenant, device, node, bootId, connection } = row
      const value = jsonValue(row)
      return [put(presenceKey(tables.device, tenant, device, node, 'c'), value), put(presenceKey(tables.open, bootId, tenant, device, connection), value)]
    }))
  }

  async putDisconnected (rows: readonly SlotEnd[]): Promise<void> { await this.#write(rows.flatMap(row => endOf(row, 'e'))) }

  async putLost (rows: readonly SlotEnd[]): Promise<void> { await this.#write(rows.flatMap(row => endOf(row, 'l'))) }

  async dropConnections (rows: readonly SlotEnd[]): Promise<void> { await this.#write(rows.map(openOf)) }

  async putActivity (node: string, rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void> {
    await this.#write(rows.map(({ tenant, device, at }) => put(presenceKey(tables.device, tenant, device, node, 'a'), jsonValue(at))))
  }

  async getPresence (tenant: string, devices: readonly string[]): Promise<readonly PresenceRow[]> {
    return await inParallel(devices, async device => {
      const rows = await this.#pool.read(presenceName, [], async database => await readRows(database, rangeOf(presenceKey(tables.device, tenant, device))))
      const nodes = new Map<string, Parts>()
      let activityAt = 0
      for (const [key, value] of rows) {
        const [, , node, part] = textsOf(key)
        let parts = nodes.get(node)
        if (parts === undefined) nodes.set(node, parts = {})
        if (part === 'c') parts.connected = parseJson(value)
        else if (part === 'e') parts.ended = parseJson(value)
        else if (part === 'l') parts.lost = parseJson(value)
        else if (part === 'a') activityAt = Math.max(activityAt, parseJson(value))
      }
      return { tenant, device, slots: [...nodes.values()].map(slotOf).filter(slot => slot !== null).sort((a, b) => b.connected.at - a.connected.at).slice(0, presenceSlotsMax), activityAt }
    })
  }

  async putPresenceBoot (boot: Parameters<PresenceStore['putPresenceBoot']>[0]): Promise<void> {
    await this.#changeBoot(boot.bootId, stored => ({ ...boot, swept: boot.swept ?? stored?.swept ?? 'no' }))
  }

  async putPresenceSwept (bootId: string, swept: PresenceBoot['swept']): Promise<void> {
    await this.#changeBoot(bootId, stored => stored === null ? null : { ...stored, swept })
  }

  async #changeBoot (bootId: string, change: (stored: PresenceBoot | null) => PresenceBoot | null): Promise<void> {
    await this.#boots.run(bootId, async () => {
      const key = presenceKey(tables.boot, bootId)
      const value = await this.#pool.read(presenceName, undefined, async database => await database.get(key) as Buffer | undefined)
      const boot = change(value === undefined ? null : parseJson<PresenceBoot>(value))
      if (boot !== null) await this.#write([put(key, jsonValue(boot))])
    })
  }

  async presenceBoots (): Promise<readonly PresenceBoot[]> {
    const rows = await this.#pool.read(presenceName, [], async database => await readRows(database, rangeOf(presenceKey(tables.boot))))
    return rows.map(([, value]) => parseJson<PresenceBoot>(value))
  }

  async deletePresenceBoot (bootId: string): Promise<void> { await this.#write([del(presenceKey(tables.boot, bootId))]) }

  async * connectionsOf (bootId: string): AsyncGenerator<Connected, void> {
    const use = await this.#pool.use(presenceName, false)
    if (use === null) return
    try {
      for await (const rows of scanRows(use.database, rangeOf(presenceKey(tables.open, bootId)))) {
        for (const [, value] of rows) yield parseJson<Connected>(value)
      }
    } finally {
      use.release()
    }
  }

  async deletePresence (tenant: string, device: string): Promise<void> {
    const rows = await this.#pool.read(presenceName, [], async database => await readRows(database, rangeOf(presenceKey(tables.device, tenant, device))))
    const boots = rows.filter(([key]) => textsOf(key)[3] === 'c').map(([, value]) => parseJson<Connected>(value).bootId)
    const open = await inParallel(boots, async bootId => await this.#pool.read(presenceName, [], async database => await readRows(database, rangeOf(presenceKey(tables.open, bootId, tenant, device)))))
    await this.#write([...rows, ...open.flat()].map(([key]) => del(key)))
  }

  async #write (operations: readonly Operation[]): Promise<void> {
    for (let from = 0; from < operations.length; from += batchOperationsMax) await this.#pool.write(presenceName, operations.slice(from, from + batchOperationsMax))
  }
}

function endOf ({ node, bootId, ...ended }: SlotEnd, part: 'e' | 'l'): Operation[] {
  const { tenant, device } = ended
  return [put(presenceKey(tables.device, tenant, device, node, part), jsonValue(ended)), openOf({ node, bootId, ...ended })]
}

function openOf ({ bootId, tenant, device, connection }: SlotEnd): Operation {
  return del(presenceKey(tables.open, bootId, tenant, device, connection))
}

function slotOf ({ connected, ended, lost }: Parts): PresenceSlot | null {
  if (connected === undefined) return null
  return { connected, disconnected: [ended, lost].find(end => end?.connection === connected.connection) ?? null }
}
