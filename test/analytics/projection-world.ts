/**
 * A store whose devices send, are sealed, erased and changed (test/sealing/seal-world.ts), and any number of analytics databases that
 * follow it, each with cursors of its own. So one that was never interrupted shows how another one has to be.
 */
import { ErasureLookup } from '../../src/analytics/erasure-lookup.js'
import { runProjectTask } from '../../src/analytics/project-task.js'
import { Projector } from '../../src/analytics/projector.js'
import { runRebuildTask } from '../../src/analytics/rebuild-task.js'
import { Rebuild } from '../../src/analytics/rebuild.js'
import { runUpkeepTask } from '../../src/analytics/upkeep-task.js'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { openAnalytics, type OpenedAnalytics } from '../../src/store/open-analytics.js'
import type { Store } from '../../src/store/store.js'
import type { ClickHouseSettings } from '../../workers/protocol.js'
import type { SealWorld, Sent } from '../sealing/seal-world.js'

export const journalId = '00000000000000aa'
const { monotonicMs, nowUs } = systemClock

/** An analytics database and what brings data into it. */
export class Follower {
  readonly analytics: OpenedAnalytics
  readonly #world: ProjectionWorld
  readonly #cursors = new Map<string, number>()
  readonly #settings = new Map<string, string>()
  readonly #erasures: ErasureLookup
  #projector: Projector | null = null
  /** What a piece of a rebuild does before and after its work: a test's hook. */
  onPiece: (when: 'before' | 'after') => Promise<void> = async () => {}

  constructor (world: ProjectionWorld, settings: ClickHouseSettings) {
    this.#world = world
    this.analytics = openAnalytics(settings, { clock: systemClock, log: silentLog, watch: false })
    this.#erasures = new ErasureLookup({ store: world.store, leaseMs: 0, erasuresMax: 100, monotonicMs })
  }

  /** Forgets everything but its cursors, as a process that ended. */
  restart (): void { this.#projector = null }

  /** @throws Error with what ended the round */
  async project (): Promise<Projector> {
    const { store, world } = this.#world
    const { outbox } = store
    if (outbox === null) throw new Error('no outbox')
    this.#projector ??= new Projector({
      journalId,
      packer: this.#world.packer,
      stampNow: () => world.takeStamps(1),
      sealsSettled: () => world.takeStamps(1),
      cursors: {
        getCursor: async (_journal: string, name: string) => this.#cursors.get(name) ?? null,
        putCursor: async (_journal: string, name: string, position: number) => { this.#cursors.set(name, position) },
        getSetting: async (name: string) => this.#settings.get(name) ?? null
      },
      pool: { project: async task => await runProjectTask(task, { outbox, store, analytics: this.analytics, erasures: this.#erasures, monotonicMs }) },
      clock: systemClock,
      log: silentLog,
      intervalMs: 1000
    })
    const failure = await this.#projector.runOnce()
    if (failure !== null) throw new Error(`${failure.code}: ${failure.detail}`)
    return this.#projector
  }

  /** A new one, as of a process that has just started; the checkpoint is kept. */
  rebuild (marginUs?: number): Rebuild {
    const { store } = this.#world
    const { analytics } = this
    return new Rebuild({
      store: {
        listTenants: store.listTenants.bind(store),
        getTenant: store.getTenant.bind(store),
        listDevices: async (tenant, cursor) => await store.listDevices(tenant, cursor, 3),
        getSetting: async name => this.#settings.get(name) ?? null,
        putSetting: async (name, value) => { this.#settings.set(name, value) }
      },
      analytics,
      pool: {
        rebuild: async task => {
          await this.onPiece('before')
          const result = await runRebuildTask(task, { store, analytics, limits: { pointsMax: 500, textCharsMax: 100_000 }, nowUs })
          await this.onPiece('after')
          return result
        },
        upkeep: async task => await runUpkeepTask(task, { store, analytics })
      },
      clock: systemClock,
      log: silentLog,
      ...(marginUs === undefined ? {} : { marginUs })
    })
  }

  async upkeep (): Promise<void> {
    await runUpkeepTask({ kind: 'upkeep', nowUs: nowUs(), erasuresFromUs: 0, devices: true }, { store: this.#world.store, analytics: this.analytics })
  }

  /** Every row that counts, without when it was written. */
  async rows (table: 'points' | 'tiers_1h' | 'devices', tenant: string): Promise<string[]> {
    const { connection } = this.analytics
    // When it was read or written; a device's version is the time of the look at it.
    const but = { points: 'written', tiers_1h: 'written, read_at', devices: 'version' }[table]
    const found = await connection.query<Record<string, unknown>>(
      `SELECT * EXCEPT (${but}) ${table === 'points' ? 'REPLACE (toString(version) AS version, reinterpretAsUInt64(number) AS number)' : ''} FROM ${connection.database}.${table} FINAL WHERE tenant = {tenant:String}`, { tenant })
    return found.map(row => JSON.stringify(row)).sort()
  }

  async run (sql: string): Promise<void> {
    await this.analytics.connection.command(sql.replaceAll('{database}', this.analytics.connection.database), {})
  }

  async drop (): Promise<void> {
    await this.run('DROP DATABASE IF EXISTS {database} SYNC').catch(() => {})
    await this.analytics.close()
  }
}

export class ProjectionWorld {
  readonly world: SealWorld
  readonly store: Store
  readonly packer = { cursor: 0, stats: { slices: 0 } }

  constructor (world: SealWorld) {
    this.world = world
    this.store = world.store
  }

  /** A slice with its entry in the outbox, packed. */
  async send (readings: readonly Sent[]): Promise<void> {
    const write = this.world.slice(readings, journalId)
    const { mark } = write.chunks[0].slice
    await this.store.raw.writeHead({ ...write, outbox: { journalId, stream: 'pack', sequence: mark } })
    this.packer.cursor = mark
    this.packer.stats.slices++
  }

  /** Seals all that is unsealed or asked for, named in the outbox. */
  async seal (): Promise<void> {
    const sealer = this.world.sealer({ outbox: true })
    await sealer.sealDue()
    await sealer.close()
  }
}

/** Thrown by a hook in place of the death of the process. */
export function died (): TwinfoldError {
  return new TwinfoldError('internal', 'planned: the process died')
}
