/**
 * The one place that wires everything: stores, journal, packer, gate and edges, opened in the order of the flow (what
 * stores before what accepts) and closed in reverse, so that nothing is accepted that has nowhere to go.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from './core/clock.js'
import { segmentBytesMax } from './core/limits.js'
import { Lifecycle } from './core/lifecycle.js'
import type { Log } from './core/log.js'
import type { Config } from './config.js'
import { createHttpEdge, type HttpEdge } from './edge/http/http-edge.js'
import { IdempotencyKeys } from './edge/http/idempotency-keys.js'
import { MqttEdge } from './edge/mqtt/mqtt-edge.js'
import { Authenticator, hashSecret, newCredential } from './gate/authenticate.js'
import { Pressure } from './gate/pressure.js'
import { openJournal, type JournalFiles } from './journal/journal.js'
import { addHttpMetrics, createMetrics } from './metrics.js'
import { JournalKeeper } from './pipeline/journal-keeper.js'
import { Packer } from './pipeline/packer.js'
import { PackPool } from './pipeline/pack-pool.js'
import { PlanKeeper } from './pipeline/plan-keeper.js'
import { PressureControl } from './pipeline/pressure-control.js'
import { SlabMerger } from './pipeline/slab-merger.js'
import { readBootId, startCursor } from './pipeline/start-cursor.js'
import { QueryPool } from './query/query-pool.js'
import { openBrokerPersistence } from './store/embedded/broker/persistence.js'
import { openStore } from './store/open-store.js'
import type { DeadLetterReason } from './store/dead-letter-store.js'
import type { Store } from './store/store.js'
import { RefusalWriter } from './tenancy/refusal-writer.js'
import { DeadLetterKeeper } from './tenancy/dead-letter-keeper.js'
import { RetentionJob } from './tenancy/retention-job.js'
import { TenantCache } from './tenancy/tenant-cache.js'
import type { StoreSpec } from '../workers/protocol.js'

/** How long a decision about a credential, tenant or plan may be remembered. */
const leaseMs = 10_000
const adminKeyMade = 'admin-key-made'

export interface App {
  readonly mqttPort: number
  readonly httpPort: number
  readonly mqttUrl: string
  readonly httpUrl: string
  /** The generated admin key, on the first start only. */
  readonly newAdminKey: string | null
  makeAdminKey(label: string): Promise<string>
  close(): Promise<void>
}

export async function startApp (config: Config, { clock, log }: { clock: Clock, log: Log }): Promise<App> {
  const lifecycle = new Lifecycle()
  try {
    return await wire(config, clock, log, lifecycle)
  } catch (error) {
    await lifecycle.close().catch(() => {})
    throw error
  }
}

async function wire (config: Config, clock: Clock, log: Log, lifecycle: Lifecycle): Promise<App> {
  mkdirSync(config.dataDirectory, { recursive: true })
  const spec: StoreSpec = { kind: 'embedded', directory: join(config.dataDirectory, 'store') }
  const store = await openStore(spec, { clock, log, writer: true })
  await lifecycle.open({ name: 'store', close: async () => { await store.close() } })

  const { key: newAdminKey } = await makeFirstAdminKey(store, config.adminKey, clock)
  const journal = await openJournal({
    directory: join(config.dataDirectory, 'journal'),
    clock,
    diskBytesMax: config.journalBytesMax,
    log,
    cursorOf: async journalId => await startCursor(store, journalId, readBootId())
  })
  await lifecycle.open({ name: 'journal', close: async () => { await journal.close() } })

  const tenants = new TenantCache(store, { leaseMs, cachedMax: 10_000, clock })
  const authenticator = new Authenticator(store, { leaseMs, cachedMax: 200_000 })
  const pressure = new Pressure()
  const idempotency = new IdempotencyKeys(store, { clock })
  idempotency.recover(journal.recoverKeys(journal.recovered.cursor))
  const deadLetters = new DeadLetterKeeper(store, { log })
  await lifecycle.open({ name: 'dead letters', open: async () => { await deadLetters.start() }, close: async () => { await deadLetters.close() } })

  const pipeline = await openPipeline(config, { clock, log, store, journal, spec, pressure, lifecycle, deadLetters, idempotency })

  const queries = new QueryPool({ store: spec, threads: config.queryThreads, waitingMax: config.queriesWaitingMax, timeoutMs: config.queryTimeoutMs })
  await lifecycle.open({ name: 'queries', close: async () => { await queries.close() } })
  const retention = new RetentionJob({ store, log, clock })
  await lifecycle.open({ name: 'retention', open: async () => { retention.start() }, close: async () => { await retention.close() } })
  const persistence = await openBrokerPersistence({
    directory: join(config.dataDirectory, 'broker'), clock, log, onLimit: (limit, owner) => { log.debug({ limit, owner }, 'a limit of the broker was reached') }
  })
  await lifecycle.open({ name: 'broker persistence', close: async () => { await persistence.close() } })

  const refusals = new RefusalWriter({ deadLetters, stamp: () => clock.nowUs(), log })
  await lifecycle.open({ name: 'refusals', close: async () => { await refusals.close() } })
  const mqtt = new MqttEdge({
    host: config.host,
    port: config.mqttPort,
    webSocket: true,
    journal,
    registry: store,
    authenticator,
    pressure,
    persistence,
    clock,
    log,
    connectionsMax: config.connectionsMax,
    tls: config.tlsKeyFile === '' ? undefined : { key: readFileSync(config.tlsKeyFile), cert: readFileSync(config.tlsCertFile) },
    tlsPort: config.mqttTlsPort,
    onRefused: message => { refusals.add(message) }
  })
  let closing = false
  const readiness = (): { ready: boolean, reasons: string[] } => {
    const reasons: string[] = []
    if (closing) reasons.push('stopping')
    if (journal.state === 'failed') reasons.push('the journal cannot be written')
    if (journal.state === 'full') reasons.push('the journal has reached its bound on disk')
    return { ready: reasons.length === 0, reasons }
  }
  const metrics = createMetrics({ journal, packer: pipeline.packer, merger: pipeline.merger, pressure, pressureControl: pipeline.pressureControl, planKeeper: pipeline.planKeeper, keeper: pipeline.keeper, mqtt, queries, persistence, deadLetters })
  const http: HttpEdge = await createHttpEdge({
    host: config.host,
    port: config.httpPort,
    journal,
    store,
    authenticator,
    tenants,
    pressure,
    queries,
    mqtt,
    readiness,
    metrics,
    idempotency,
    clock,
    log
  })
  addHttpMetrics(metrics, http)
  await lifecycle.open({ name: 'mqtt', open: async () => { await mqtt.open() }, close: async () => { await mqtt.close() } })
  await lifecycle.open({ name: 'http', open: async () => { await http.open() }, close: async () => { await http.close() } })
  const shownHost = config.host === '0.0.0.0' || config.host === '::' ? 'localhost' : config.host
  return {
    mqttPort: mqtt.port,
    httpPort: http.port,
    mqttUrl: `mqtt://${shownHost}:${mqtt.port}`,
    httpUrl: `http://${shownHost}:${http.port}`,
    newAdminKey,
    makeAdminKey: async label => await addAdminKey(store, label, clock),
    close: async () => {
      closing = true
      await lifecycle.close()
    }
  }
}

interface PipelineParts {
  readonly clock: Clock
  readonly log: Log
  readonly store: Store
  readonly journal: JournalFiles
  readonly spec: StoreSpec
  readonly pressure: Pressure
  readonly lifecycle: Lifecycle
  readonly deadLetters: DeadLetterKeeper
  readonly idempotency: IdempotencyKeys
}

interface Pipeline {
  readonly packer: Packer
  readonly merger: SlabMerger
  readonly planKeeper: PlanKeeper
  readonly keeper: JournalKeeper
  readonly pressureControl: PressureControl
}

async function openPipeline (config: Config, parts: PipelineParts): Promise<Pipeline> {
  const { clock, log, store, journal, spec, pressure, lifecycle, deadLetters, idempotency } = parts
  const pool = new PackPool({ store: spec, threads: config.packThreads, leaseMs })
  await lifecycle.open({ name: 'pack threads', close: async () => { await pool.close() } })
  const planKeeper = new PlanKeeper({ plans: store, clock, log, devicesMax: 10_000, measureMs: 10_000 })
  const merger = new SlabMerger({
    journalId: journal.journalId, pool, busy: () => pressure.level !== 'open', clock, log, afterMs: config.mergeAfterMs, intervalMs: config.mergeAfterMs * 2, slabsPerTaskMax: 4000
  })
  const packer = new Packer({
    journal,
    cursors: store,
    pool,
    clock,
    log,
    sliceIntervalMs: config.sliceIntervalMs,
    onPacked: result => {
      planKeeper.note(result.loads)
      merger.notePacked(packer.cursor)
      for (const [key, count] of result.refused) {
        const [tenant, reason] = key.split('\0')
        deadLetters.noteAdded(tenant, count, reason as DeadLetterReason)
      }
      idempotency.packedUpTo(packer.cursorStamp)
    }
  }, { cursor: journal.recovered.cursor, marks: journal.recovered.marks })
  const keeper = new JournalKeeper({
    journal, cursors: store, packer, clock, log, flush: async () => { await store.raw.flush() }, flushIntervalMs: 30_000, keepMs: config.journalKeepMs, flushBytes: segmentBytesMax * 4
  })
  const pressureControl = new PressureControl({ journal, packer, pressure, lagMsMax: config.lagMsMax, backlogBytesMin: 16 * 1024 * 1024, intervalMs: 10 })
  await lifecycle.open({ name: 'plan keeper', open: async () => { planKeeper.open() }, close: async () => { await planKeeper.close() } })
  await lifecycle.open({ name: 'journal keeper', open: async () => { keeper.open() }, close: async () => { await keeper.close() } })
  await lifecycle.open({
    name: 'packer',
    open: async () => { packer.open() },
    close: async () => {
      // What is acknowledged and not packed yet is packed at the next start, but a clean stop leaves nothing behind.
      await packer.drain(5000)
      await packer.close()
      await keeper.flushNow()
    }
  })
  await lifecycle.open({
    name: 'merger',
    open: async () => {
      merger.notePacked(packer.cursor)
      merger.open()
    },
    close: async () => { await merger.close() }
  })
  await lifecycle.open({ name: 'pressure', open: async () => { pressureControl.open() }, close: async () => { pressureControl.close() } })
  return { packer, merger, planKeeper, keeper, pressureControl }
}

/** One key per label: an older one of the same label is revoked. */
async function addAdminKey (store: Store, label: string, clock: Clock): Promise<string> {
  const { items } = await store.listCredentials(null, null, 1000)
  for (const older of items) if (older.label === label) await store.deleteCredential(null, older.id)
  const { secret, credential } = newCredential('admin', null, null, label, clock.nowUs())
  await store.putCredential(credential)
  return secret
}

/** A configured key is made good at every start; without one, a key is generated at the first start alone. */
async function makeFirstAdminKey (store: Store, configured: string, clock: Clock): Promise<{ key: string | null }> {
  if (configured !== '') {
    if (await store.getCredential(hashSecret(configured)) === null) {
      const { credential } = newCredential('admin', null, null, 'configured', clock.nowUs())
      await store.putCredential({ ...credential, hash: hashSecret(configured) })
    }
    await store.putSetting(adminKeyMade, '1')
    return { key: null }
  }
  if (await store.getSetting(adminKeyMade) !== null) return { key: null }
  const key = await addAdminKey(store, 'first start', clock)
  await store.putSetting(adminKeyMade, '1')
  return { key }
}
