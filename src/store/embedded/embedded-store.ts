/**
 * The embedded store: every port on LevelDB, in one directory (docs/adr/0002-embedded-store.md). A process has one store with
 * `writer: true`, opened first and closed last, which owns the databases; any number of further ones, in any thread, share them.
 *
 * What a call returned for survives SIGKILL. Registry, plans, erasures, settings and cursors written with `sync` survive power
 * loss too; the rest does after the next `raw.flush`. Faults are TwinfoldErrors: `store_unavailable` (the next call tries
 * again, reopening what LevelDB had made read-only), `corrupt_data`, `format_newer`.
 */
import { mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../core/clock.js'
import { TwinfoldError } from '../../core/errors.js'
import type { Log } from '../../core/log.js'
import { methodsOf } from '../methods-of.js'
import type { Store } from '../store.js'
import { DatabasePool } from './database-pool.js'
import { EmbeddedDeadLetters } from './embedded-dead-letters.js'
import { EmbeddedDocuments } from './embedded-documents.js'
import { EmbeddedEntities } from './embedded-entities.js'
import { EmbeddedEventLog } from './embedded-event-log.js'
import { EmbeddedJobs } from './embedded-jobs.js'
import { EmbeddedPresence } from './embedded-presence.js'
import { EmbeddedRawStore } from './embedded-raw-store.js'
import { EmbeddedRegistry } from './embedded-registry.js'
import { EmbeddedClaims } from './embedded-claims.js'
import { EmbeddedSealRequests } from './embedded-seal-requests.js'
import { EmbeddedIdempotency, EmbeddedSmallStores } from './embedded-small-stores.js'
import { EntityWriter } from './entity-writer.js'
import { entitiesName, formatFileName, metaName, presenceName } from './filenames.js'
import { KeeperMember } from './keeper-member.js'
import { KeeperOwner } from './keeper-owner.js'
import { assertFormat, storeFormat } from './level.js'
import { Meta } from './meta.js'
import { EmbeddedOutbox, EmbeddedOutboxWriter } from './outbox.js'
import { emptyTrash } from './raw-files.js'
import { storeError } from './store-errors.js'
import { EmbeddedTierStore } from './tiers.js'

export interface EmbeddedStoreOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  /** True for the one store of the process that owns the directory; false (default) for those beside it. */
  readonly writer?: boolean
  /** As in `EmbeddedSpec`. */
  readonly outbox?: SharedArrayBuffer
}

/**
 * Windows that one thread keeps open when it does not use them, and for how long, milliseconds. A dashboard of a year looks at thirteen
 * raw windows and a few of the tiers; twice that.
 */
const windowsOpenMax = 32
const windowIdleMs = 60_000

export interface EmbeddedStore extends Store {
  /** Handles that this store has open now. */
  readonly openDatabases: number
  /** The real path of the store's directory. */
  readonly directory: string
}

/** @throws TwinfoldError `store_unavailable` when another process has the directory, `format_newer`, `corrupt_data`. */
export async function openEmbeddedStore (options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const writer = options.writer === true
  const directory = prepare(options.directory, writer)
  const owner = writer ? new KeeperOwner({ directory, log: options.log, clock: options.clock }) : null
  const keeper = owner ?? new KeeperMember({ directory })
  const pool = new DatabasePool({
    directory, keeper, clock: options.clock, log: options.log, openMax: windowsOpenMax, idleMs: windowIdleMs, pinned: [metaName, entitiesName, presenceName]
  })
  try {
    // Takes LevelDB's lock of the directory for the process.
    const use = await pool.use(metaName, true)
    use?.release()
    if (writer) await emptyTrash(directory)
  } catch (error) {
    await pool.close()
    await keeper.close()
    throw storeError(error, metaName)
  }
  const meta = new Meta(pool, { readsWait: writer })
  const registry = new EmbeddedRegistry(meta, { writes: writer })
  const letters = new EmbeddedDeadLetters(meta)
  const small = new EmbeddedSmallStores(meta)
  const idempotency = new EmbeddedIdempotency({ directory, pool, owner })
  const entityWriter = new EntityWriter(pool, options.clock)
  let closing: Promise<void> | null = null
  return {
    directory,
    raw: new EmbeddedRawStore({ directory, pool, owner, outbox: new EmbeddedOutboxWriter(pool, options.clock, options.outbox ?? null) }),
    tiers: new EmbeddedTierStore({ directory, pool, owner }),
    hot: null,
    outbox: new EmbeddedOutbox({ pool, directory, clock: options.clock }),
    dependencies: () => [],
    ...methodsOf(registry, [
      'createTenant', 'getTenant', 'updateTenant', 'listTenants', 'createDevice', 'getDevice', 'updateDevice', 'deleteDevice', 'listDevices',
      'listDevicesOfGateway', 'putCredential', 'getCredential', 'listCredentials', 'deleteCredential', 'getPlan', 'putPlanIfVersion'
    ]),
    ...methodsOf(letters, ['putDeadLetters', 'listDeadLetters', 'getDeadLetter', 'deleteDeadLetters', 'trimDeadLetters', 'deadLetterTenants']),
    ...methodsOf(small, ['getCursor', 'putCursor', 'putErasure', 'erasedBefore', 'erasedParts', 'listErasures', 'getSetting', 'putSetting']),
    ...methodsOf(new EmbeddedJobs(meta), ['putJob', 'getJob', 'listJobs', 'listOpenJobs', 'cancelJob', 'isJobCancelled', 'deleteJob']),
    ...methodsOf(new EmbeddedClaims(meta, { clock: options.clock, writes: writer }), ['takeClaim', 'releaseClaim']),
    ...methodsOf(new EmbeddedSealRequests(meta), ['putSealRequests', 'scanSealRequests', 'countSealRequests', 'deleteSealRequests']),
    ...methodsOf(idempotency, ['putIdempotency', 'getIdempotency', 'dropIdempotencyBefore', 'claimIdempotency']),
    ...methodsOf(new EmbeddedEntities(pool, writer ? entityWriter : null), [
      'getEntity', 'getEntityVersion', 'commitEntities', 'readEntityEvents', 'readEntityItems', 'getEntityItem', 'putEntitySnapshot', 'findEntitySnapshot', 'dropEntityHistory', 'scanEntities'
    ]),
    settleMs: 0,
    ...methodsOf(new EmbeddedEventLog(pool, entityWriter, { writes: writer }), ['appendEvents', 'readEvents', 'endOfEvents', 'positionAt', 'trimEvents', 'onAppended']),
    ...methodsOf(new EmbeddedDocuments(meta, { writes: writer }), ['getDocument', 'putDocument', 'deleteDocument', 'listDocuments', 'documentTenants']),
    ...methodsOf(new EmbeddedPresence(pool), [
      'putConnected', 'putDisconnected', 'putLost', 'dropConnections', 'putActivity', 'getPresence', 'putPresenceBoot', 'putPresenceSwept', 'presenceBoots', 'deletePresenceBoot', 'connectionsOf', 'deletePresence'
    ]),
    get openDatabases () { return pool.openCount },
    async open () {},
    async close () {
      closing ??= pool.close().then(async () => { await keeper.close() })
      await closing
    }
  }
}

/** Makes the directory and its format mark, or checks the mark. Returns the one true path, which is what threads share databases by. */
function prepare (directory: string, writer: boolean): string {
  if (!writer) return realpathSync(directory)
  mkdirSync(directory, { recursive: true })
  const path = realpathSync(directory)
  const file = join(path, formatFileName)
  let stored: string | null
  try {
    stored = readFileSync(file, 'latin1').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new TwinfoldError('store_unavailable', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
    stored = null
  }
  if (stored !== null) {
    assertFormat(stored, path, formatFileName)
  } else {
    writeFileSync(`${file}.new`, `${storeFormat}\n`, { flush: true } as object)
    renameSync(`${file}.new`, file)
  }
  return path
}
