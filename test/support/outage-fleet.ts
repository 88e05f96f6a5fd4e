/**
 * What the outage tests share: a server of the cluster profile on services of its own, devices that keep ledgers, and a look at
 * the end at what queries answer.
 */
import type { ApiAnswer, TwinfoldApi } from '../../simulators/twinfold-api.js'
import { DrillMqttDevice } from './drill-device.js'
import { compareWithLedger, type Findings } from './kill-drill.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from './server.js'
import { readConfig } from '../../src/config.js'
import { storeSpec } from '../../src/store-spec.js'
import { verifySpec } from './verify-store.js'

export interface ClusterAddresses {
  readonly contactPoints: readonly string[]
  readonly dataCenter: string
  readonly redisUrl: string
  readonly keyspace: string
  readonly clickHouseUrl?: string
}

/** Settings of a server of the cluster profile. */
export function clusterSettings (at: ClusterAddresses, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    TWINFOLD_STORE: 'cluster',
    TWINFOLD_CASSANDRA: at.contactPoints.join(','),
    TWINFOLD_CASSANDRA_DATA_CENTER: at.dataCenter,
    TWINFOLD_CASSANDRA_KEYSPACE: at.keyspace,
    TWINFOLD_REDIS: at.redisUrl,
    TWINFOLD_REDIS_PREFIX: at.keyspace,
    ...(at.clickHouseUrl === undefined ? {} : { TWINFOLD_CLICKHOUSE: at.clickHouseUrl, TWINFOLD_CLICKHOUSE_DATABASE: at.keyspace }),
    ...more
  }
}

const drainTimeoutMs = 120_000
const settleTimeoutMs = 60_000

export class OutageFleet {
  readonly server: TestServer
  readonly api: TwinfoldApi
  readonly key: string
  readonly devices = new Map<string, DrillMqttDevice>()
  readonly #settings: Readonly<Record<string, string>>
  readonly #removeDirectory: () => Promise<void>

  private constructor (server: TestServer, key: string, settings: Readonly<Record<string, string>>, removeDirectory: () => Promise<void>) {
    this.#settings = settings
    this.server = server
    this.key = key
    this.api = server.api(key)
    this.#removeDirectory = removeDirectory
  }

  /** Starts a server and `devices` devices that send `ratePerSecond` readings each. */
  static async start (settings: Readonly<Record<string, string>>, options: { devices: number, ratePerSecond: number }): Promise<OutageFleet> {
    const { directory, remove } = await temporaryDirectory('outage')
    const server = await startServer({ directory, settings })
    const fleet = new OutageFleet(server, await server.api(testAdminKey).createTenant('outage', 365), settings, remove)
    const ids = Array.from({ length: options.devices }, (_, i) => `d${i}`)
    const tokens = await fleet.api.createDevices(ids)
    // Yesterday: their buckets are past, so they are sealed while more comes.
    const firstTsMs = Date.now() - 30 * 3600_000
    for (const [i, id] of ids.entries()) {
      fleet.devices.set(id, new DrillMqttDevice({ clientId: id, token: tokens[i], inFlight: 100, firstTsMs, ratePerSecond: options.ratePerSecond }))
    }
    for (const device of fleet.devices.values()) device.run(server.mqttPort)
    return fleet
  }

  get acked (): number {
    return [...this.devices.values()].reduce((sum, device) => sum + device.ledger.acked.size, 0)
  }

  /** Acknowledged readings a second over the next time. */
  async ackedPerSecond (ms: number): Promise<number> {
    const before = this.acked
    const startMs = performance.now()
    await new Promise(resolve => { setTimeout(resolve, ms) })
    return (this.acked - before) * 1000 / (performance.now() - startMs)
  }

  /** A request and how long its answer took, ms. */
  async timed (path: string): Promise<ApiAnswer & { readonly tookMs: number }> {
    const startMs = performance.now()
    const answer = await this.api.ask('GET', path)
    return { ...answer, tookMs: performance.now() - startMs }
  }

  async ready (): Promise<{ readonly status: number, readonly text: string }> {
    const response = await fetch(`${this.server.httpUrl}/readyz`)
    return { status: response.status, text: await response.text() }
  }

  /**
   * Stops sending, waits until all is acknowledged and packed, and compares every device's ledger with what queries answer; then the
   * tiers that were sealed meanwhile with raw (INVARIANTS 4). @throws Error where a tier differs
   */
  async settle (): Promise<Findings & { readonly acked: number }> {
    for (const device of this.devices.values()) device.stopProducing()
    const deadlineMs = performance.now() + settleTimeoutMs
    for (const [id, device] of this.devices) {
      while (device.outstanding > 0) {
        if (performance.now() > deadlineMs) throw new Error(`${id}: ${device.outstanding} publishes were not acknowledged in ${settleTimeoutMs} ms`)
        await new Promise(resolve => { setTimeout(resolve, 10) })
      }
      device.close()
    }
    await this.api.drain(drainTimeoutMs)
    const findings: Findings = { stored: 0, missing: [], twice: [], wrong: [], neverSent: [] }
    for (const [id, device] of this.devices) await compareWithLedger(this.api, id, device.ledger, tsMs => tsMs, findings)
    const { differences } = await verifySpec(storeSpec(readConfig(this.#settings)))
    if (differences.length > 0) throw new Error(`tiers differ from raw:\n${differences.join('\n')}`)
    return { ...findings, acked: this.acked }
  }

  async close (): Promise<void> {
    for (const device of this.devices.values()) device.close()
    if (this.server.running) await this.server.kill()
    await this.#removeDirectory()
  }
}
