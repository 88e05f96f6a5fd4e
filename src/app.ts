/**
 * The one place that wires everything: stores, journal, packer, gate and edges, opened in the order of the flow (what
 * stores before what accepts) and closed in reverse, so that nothing is accepted that has nowhere to go.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { openPipeline, type PipelineParts } from './app-pipeline.js'
import { openSearch } from './app-search.js'
import { followDevices, openTwins } from './app-twins.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { KeyedLock } from './core/keyed-lock.js'
import { Lifecycle } from './core/lifecycle.js'
import type { Log } from './core/log.js'
import { createHttpEdge, type HttpEdge } from './edge/http/http-edge.js'
import { IdempotencyKeys } from './edge/http/idempotency-keys.js'
import { MqttEdge } from './edge/mqtt/mqtt-edge.js'
import { Authenticator } from './gate/authenticate.js'
import { Pressure } from './gate/pressure.js'
import { Revocations } from './gate/revocations.js'
import { openJournal } from './journal/journal.js'
import { LatestValues } from './live/latest-values.js'
import { LiveHub } from './live/live-hub.js'
import { addHttpMetrics, createMetrics } from './metrics.js'
import { addSearchMetrics, addTwinMetrics } from './metrics-twins.js'
import { NodeMembership } from './nodes/node-membership.js'
import { readBootId, startCursor } from './pipeline/start-cursor.js'
import { QueryPool } from './query/query-pool.js'
import { joinDependencies, type DependencyStatus } from './store/dependency-status.js'
import { openBrokerBackend } from './store/open-broker.js'
import { openFleet } from './store/open-fleet.js'
import { openLiveBus } from './store/open-live.js'
import { openNodes } from './store/open-nodes.js'
import { openStore } from './store/open-store.js'
import type { RevocationLog } from './store/revocation-log.js'
import { storeSpec } from './store-spec.js'
import { addAdminKey, makeFirstAdminKey } from './tenancy/admin-keys.js'
import { DeadLetterKeeper } from './tenancy/dead-letter-keeper.js'
import { RefusalWriter } from './tenancy/refusal-writer.js'
import { RetentionJob } from './tenancy/retention-job.js'
import type { Principal } from './tenancy/model.js'
import { TenantCache } from './tenancy/tenant-cache.js'
import { TransferService } from './transfer/transfer-service.js'
import type { StoreSpec } from '../workers/protocol.js'

/** How long a decision about a credential, tenant or plan may be remembered. */
const leaseMs = 10_000

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
  const spec = storeSpec(config)
  const watched: (() => readonly DependencyStatus[])[] = []
  const store = await openStore(spec, { clock, log, writer: true })
  await lifecycle.open({ name: 'store', close: async () => { await store.close() } })
  watched.push(() => store.dependencies())

  const newAdminKey = await makeFirstAdminKey(store, config.adminKey, clock)
  const journal = await openJournal({
    directory: join(config.dataDirectory, 'journal'),
    clock,
    diskBytesMax: config.journalBytesMax,
    log,
    cursorOf: async journalId => await startCursor(store, journalId, readBootId())
  })
  await lifecycle.open({ name: 'journal', close: async () => { await journal.close() } })
  const cluster = await joinCluster(config, { spec, clock, log, journal, lifecycle, watched })
  const tenants = new TenantCache(store, { leaseMs, cachedMax: 10_000, clock })
  const authenticator = new Authenticator(store, { leaseMs, cachedMax: 200_000 })
  const pressure = new Pressure()
  const idempotency = new IdempotencyKeys(store, { clock, stamps: journal })
  idempotency.recover(journal.recoverKeys(journal.recovered.cursor), journal.durableEnd)
  // Told of letters once the events are there that tell of them.
  const letterEvents: { note: ((tenant: string, reason: string | undefined, count: number) => void) | null } = { note: null }
  const deadLetters = new DeadLetterKeeper(store, { log, noted: (tenant, reason, count) => { letterEvents.note?.(tenant, reason, count) } })
  await lifecycle.open({ name: 'dead letters', open: async () => { await deadLetters.start() }, close: async () => { await deadLetters.close() } })
  const live = new LiveHub({ clock, log })
  const outboxLane = new KeyedLock()
  const changes = new KeyedLock()
  const devices = await openTwins(config, { clock, log, lifecycle, watched, store, spec, journal, membership: cluster?.membership ?? null, node: cluster?.sealers ?? null, pressure, deadLetters, changes })
  const pipeline = await openPipeline(config, {
    clock, log, outboxLane, live, store, journal, spec, watched, pressure, lifecycle, deadLetters, idempotency, leaseMs, alarms: devices.alarmEngine, applier: devices.applier, sealers: cluster?.sealers ?? null, onCursor: position => { devices.replicated?.packedUpTo(position) }
  })
  letterEvents.note = (tenant, reason, count) => { devices.events.deadLetters.note(tenant, reason, count) }
  await followDevices(devices, lifecycle)
  const analytics = pipeline.analytics?.service ?? null
  devices.late.tagsCopied = (tenant, device) => { analytics?.noteDevice(tenant, device) }
  const fleet = pipeline.analytics === null ? null : openFleet({
    connection: pipeline.analytics.store.connection, sqlDirectory: join(config.dataDirectory, 'sql'), sql: config.sql, clock, ready: async () => { await pipeline.analytics?.service.ready() }
  })
  if (fleet !== null) await lifecycle.open({ name: 'fleet', close: async () => { await fleet.close() } })

  const transfer = new TransferService({
    store, spec, directory: join(config.dataDirectory, 'imports'), node: cluster?.sealers?.node ?? 'single', owner: cluster?.sealers?.bootId ?? randomUUID(),
    journal, packer: pipeline.packer, outboxLane, busy: () => pressure.level !== 'open' || pipeline.packer.stuck,
    journals: () => cluster?.membership.list().map(node => node.journalId) ?? [],
    analytics, noteRefused: (tenant, count, reason) => { deadLetters.noteAdded(tenant, count, reason) },
    importBytesMax: config.importBytesMax, spoolBytesMax: config.importSpoolBytesMax, exportsMax: config.exportsMax, clock, log
  })
  await lifecycle.open({ name: 'transfer', open: async () => { await transfer.open() }, close: async () => { await transfer.close() } })
  const queries = new QueryPool({ store: spec, threads: config.queryThreads, waitingMax: config.queriesWaitingMax, timeoutMs: config.queryTimeoutMs })
  await lifecycle.open({ name: 'queries', close: async () => { await queries.close() } })
  const latest = new LatestValues({ queries, tenants, nowUs: () => clock.nowUs() })
  const { search, jobs: twinJobs } = await openSearch({
    clock, log, lifecycle, store, journal, tenants, twins: devices.twins, presence: devices.presence, bell: devices.bell, shared: spec.kind === 'cluster', bootId: cluster?.sealers?.bootId ?? null, latest, transfer, analytics: pipeline.analytics
  })
  devices.presence.onActivity(rows => { search?.projector.noteActivity(rows) })
  await lifecycle.open({
    name: 'live',
    open: async () => { live.open({ latest, bus: spec.kind === 'cluster' ? openLiveBus(spec.redis, { clock, log }) : null }) },
    close: async () => { await live.close() }
  })
  const retention = new RetentionJob({ store, log, clock })
  await lifecycle.open({ name: 'retention', open: async () => { retention.start() }, close: async () => { await retention.close() } })
  const broker = await openBrokerBackend(spec.kind === 'cluster' ? { kind: 'cluster', redis: spec.redis } : { kind: 'embedded', directory: join(config.dataDirectory, 'broker') }, {
    clock, log, onLimit: (limit, owner) => { log.debug({ limit, owner }, 'a limit of the broker was reached') }
  })
  await lifecycle.open({ name: 'broker', close: async () => { await broker.close() } })
  const brokerStatus = (): readonly DependencyStatus[] => [broker.status()].filter(status => status !== null)
  watched.push(brokerStatus)

  const refusals = new RefusalWriter({ deadLetters, stamp: () => clock.nowUs(), journalId: journal.journalId, log })
  await lifecycle.open({ name: 'refusals', close: async () => { await refusals.close() } })
  const mqtt = new MqttEdge({
    host: config.host,
    port: config.mqttPort,
    webSocket: true,
    journal: devices.journal,
    registry: store,
    authenticator,
    pressure,
    persistence: broker.persistence,
    ...(broker.messaging === null ? {} : { messaging: broker.messaging }),
    live,
    sessions: [devices.delivery, devices.commands.sessions],
    questions: devices.questions,
    presence: devices.presence,
    bell: devices.bell,
    clock,
    log,
    connectionsMax: config.connectionsMax,
    tls: config.tlsKeyFile === '' ? undefined : { key: readFileSync(config.tlsKeyFile), cert: readFileSync(config.tlsCertFile) },
    tlsPort: config.mqttTlsPort,
    onRefused: message => { refusals.add(message) }
  })
  const connections = {
    accept: (stream: Duplex, request: IncomingMessage) => { mqtt.accept(stream, request) },
    disconnect: (wanted: (principal: Principal) => boolean) => mqtt.disconnect(wanted) + live.disconnect(wanted) + devices.events.disconnect(wanted)
  }
  const revocations = cluster === null ? null : new Revocations({ revocations: cluster.revocations, authenticator, tenants, connections, log })
  if (revocations !== null) await lifecycle.open({ name: 'revocations', open: async () => { revocations.open() }, close: async () => { await revocations.close() } })
  let closing = false
  const readiness = (): { ready: boolean, reasons: string[] } => {
    const reasons: string[] = []
    if (closing) reasons.push('stopping')
    if (journal.state === 'failed') reasons.push('the journal cannot be written')
    if (journal.state === 'full') reasons.push('the journal has reached its bound on disk')
    reasons.push(...cluster?.membership.reasons() ?? [])
    return { ready: reasons.length === 0, reasons }
  }
  const dependencies = (): readonly DependencyStatus[] => joinDependencies(watched.flatMap(statuses => statuses()))
  const metrics = createMetrics({ ...pipeline, live, transfer, journal, pressure, mqtt, queries, broker, deadLetters, membership: cluster?.membership ?? null, revocations, dependencies })
  addTwinMetrics(metrics, devices)
  addSearchMetrics(metrics, search, twinJobs)
  const http: HttpEdge = await createHttpEdge({
    host: config.host,
    port: config.httpPort,
    journal: devices.journal,
    store,
    authenticator,
    tenants,
    pressure,
    queries,
    mqtt: connections,
    live,
    transfer,
    readiness,
    dependencies,
    metrics,
    idempotency,
    changes,
    deviceChanged: (tenant, device) => {
      devices.modelRules.forgetDevice(tenant, device)
      devices.bell.ring(tenant, device, 'registry')
    },
    twins: devices.twins,
    commands: devices.commands,
    presence: devices.presence,
    inlet: devices.inlet,
    events: devices.events,
    models: { service: devices.models, twins: devices.twins },
    alarms: devices.alarms,
    ...(cluster === null ? {} : { nodes: cluster.membership, announce: revocation => { revocations?.announce(revocation) } }),
    ...(analytics === null ? {} : { analytics }),
    ...(fleet === null ? {} : { fleet: fleet.fleet, sql: fleet.sql }),
    ...(search === null ? {} : { search }),
    twinJobs,
    clock,
    log
  })
  addHttpMetrics(metrics, http)
  // Closed first of all: what waits for Cassandra is not acknowledged any more, and its senders send it again.
  devices.late.publish = async (tenant, topic, payload) => { await mqtt.publish(tenant, topic, payload, { qos: 1, retain: false }) }
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

interface NodeParts {
  readonly spec: StoreSpec
  readonly clock: Clock
  readonly log: Log
  readonly journal: { readonly journalId: string, readonly stampLast: number, observeStamp(stampUs: number): void }
  readonly lifecycle: Lifecycle
  readonly watched: (() => readonly DependencyStatus[])[]
}

/** null where one node has everything to itself. */
async function joinCluster (config: Config, { spec, clock, log, journal, lifecycle, watched }: NodeParts): Promise<{ membership: NodeMembership, revocations: RevocationLog, sealers: PipelineParts['sealers'] } | null> {
  if (spec.kind !== 'cluster') return null
  const opened = openNodes(spec.redis, { clock, log })
  await lifecycle.open({ name: 'nodes', close: async () => { await opened.close() } })
  watched.push(() => [opened.status()])
  const name = config.nodeName === '' ? hostname() : config.nodeName
  const bootId = randomUUID()
  const membership = new NodeMembership({ name, bootId, journal, store: opened.nodes, clock, log })
  await lifecycle.open({ name: 'membership', open: async () => { await membership.open() }, close: async () => { await membership.close() } })
  const live = (): string[] => membership.list().filter(node => node.state === 'live').map(node => node.name)
  return { membership, revocations: opened.revocations, sealers: { node: name, bootId, live } }
}
