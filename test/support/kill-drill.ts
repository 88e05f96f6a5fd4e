/**
 * The kill drill (INVARIANTS 1 and 3): devices send over MQTT and HTTP without pause while the server dies by SIGKILL again
 * and again at random moments and comes back on the same data. At the end, every acknowledged reading is there exactly once
 * with its value, and nothing is there that was never sent. Sealing goes on all the while: the readings are of yesterday, and in the end the
 * tiers are the fold of raw (INVARIANTS 4).
 */
import { seededRandom, type Random } from '../../simulators/fleet/seeded-random.js'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { DrillHttpDevice, DrillMqttDevice, type Ledger } from './drill-device.js'
import { startServer, testAdminKey, type TestServer } from './server.js'
import { verifyEmbedded } from './verify-store.js'

export interface KillDrillOptions {
  readonly directory: string
  readonly seed: number
  readonly rounds: number
  readonly mqttDevices: number
  readonly httpDevices: number
  readonly inFlight: number
  /** Readings per second and MQTT device at most. */
  readonly ratePerSecond: number
  /** The server lives this long in a round, at random between the two. */
  readonly aliveMs: readonly [number, number]
  readonly settings?: Readonly<Record<string, string>>
  readonly log: (line: string) => void
  /** Around every kill, and at the end before the server stops: for what else must hold. */
  readonly beforeKill?: (server: TestServer) => void
  readonly afterKill?: () => Promise<void>
  readonly atEnd?: (server: TestServer, key: string, stored: number) => Promise<void>
}

/** What was found at the end; all lists are empty when the promises hold. At most ten entries each. */
export interface KillDrillResult {
  readonly sent: number
  readonly acked: number
  readonly stored: number
  readonly redelivered: number
  readonly kills: number
  readonly missing: string[]
  readonly twice: string[]
  readonly wrong: string[]
  readonly neverSent: string[]
  /** Sealed buckets, and what `verify` found in them. */
  readonly sealedBuckets: number
  readonly tierDifferences: readonly string[]
}

const tenant = 'drill'
const batchReadings = 5
const entriesMax = 10
const settleTimeoutMs = 60_000

interface Fleet {
  readonly mqtt: Map<string, DrillMqttDevice>
  readonly http: DrillHttpDevice[]
}

async function createFleet (server: TestServer, key: string, options: KillDrillOptions, random: Random): Promise<Fleet> {
  const api = server.api(key)
  const mqtt = new Map<string, DrillMqttDevice>()
  // Yesterday: their buckets are past, so they are sealed again and again while more comes.
  const firstTsMs = Date.now() - 30 * 3600_000
  const ids = Array.from({ length: options.mqttDevices }, (_, i) => `mqtt-${i}`)
  const tokens = await api.createDevices(ids)
  for (const [i, id] of ids.entries()) mqtt.set(id, new DrillMqttDevice({ clientId: id, token: tokens[i], inFlight: options.inFlight, firstTsMs, ratePerSecond: options.ratePerSecond }))
  const http = Array.from({ length: options.httpDevices }, (_, i) => new DrillHttpDevice(`http-${i}`, batchReadings, random))
  await api.createDevices(http.map(device => device.id))
  return { mqtt, http }
}

function runFleet (fleet: Fleet, server: TestServer, key: string): void {
  for (const device of fleet.mqtt.values()) device.run(server.mqttPort)
  for (const device of fleet.http) device.run(server.api(key))
}

async function settle (fleet: Fleet): Promise<void> {
  for (const device of fleet.mqtt.values()) device.stopProducing()
  await Promise.all(fleet.http.map(async device => { await device.finish() }))
  const deadlineMs = performance.now() + settleTimeoutMs
  for (const [id, device] of fleet.mqtt) {
    while (device.outstanding > 0) {
      if (performance.now() > deadlineMs) throw new Error(`${id}: ${device.outstanding} publishes were not acknowledged in ${settleTimeoutMs} ms`)
      await new Promise(resolve => { setTimeout(resolve, 10) })
    }
    device.close()
  }
}

export interface Findings { stored: number, missing: string[], twice: string[], wrong: string[], neverSent: string[] }

/** Compares what queries answer with what the device knows. @param keyOf what identifies a reading in the ledger */
export async function compareWithLedger (api: TwinfoldApi, id: string, ledger: Ledger, keyOf: (tsMs: number, value: number) => number, findings: Findings): Promise<void> {
  const note = (list: string[], entry: string): void => { if (list.length < entriesMax) list.push(entry) }
  const seen = new Set<number>()
  for await (const { ts, values } of api.readings(id, 0, Date.now() + 3600_000)) {
    const value = values.v as number
    const key = keyOf(ts, value)
    findings.stored++
    if (seen.has(key)) note(findings.twice, `${id} ${key}`)
    seen.add(key)
    if (!ledger.sent.has(key)) note(findings.neverSent, `${id} ${ts} ${JSON.stringify(values)}`)
    else if (ledger.sent.get(key) !== value || Object.keys(values).length !== 1) note(findings.wrong, `${id} ${ts} ${JSON.stringify(values)}`)
  }
  for (const key of ledger.acked) if (!seen.has(key)) note(findings.missing, `${id} ${key}`)
}

/** Waits until what came late is sealed: something is, and nothing is overdue. */
async function sealed (server: TestServer): Promise<void> {
  const deadlineMs = performance.now() + settleTimeoutMs
  for (;;) {
    const text = await (await fetch(`${server.httpUrl}/metrics`, { headers: { authorization: `Bearer ${testAdminKey}` } })).text()
    const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
    if (value('twinfold_sealer_sealed_total') > 0 && value('twinfold_sealer_due_buckets') === 0) return
    if (performance.now() > deadlineMs) throw new Error(`nothing was sealed in ${settleTimeoutMs} ms`)
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
}

/** Runs the drill. Throws when the server does not come back. */
export async function runKillDrill (options: KillDrillOptions): Promise<KillDrillResult> {
  const { directory, log } = options
  const settings = { TWINFOLD_SEAL_AFTER_MS: '50', ...options.settings }
  const random = seededRandom(options.seed)
  log(`seed ${options.seed}`)
  let server = await startServer({ directory, settings })
  let fleet: Fleet | undefined
  try {
    const key = await server.api(testAdminKey).createTenant(tenant, 365)
    fleet = await createFleet(server, key, options, random)
    for (let round = 1; round <= options.rounds; round++) {
      runFleet(fleet, server, key)
      const [least, most] = options.aliveMs
      await new Promise(resolve => { setTimeout(resolve, least + random() * (most - least)) })
      if (!server.running) throw new Error(`the server ended by itself\n${server.errorText}`)
      options.beforeKill?.(server)
      await server.kill()
      await options.afterKill?.()
      server = await startServer({ directory, settings })
      const acked = [...fleet.mqtt.values(), ...fleet.http].reduce((sum, device) => sum + device.ledger.acked.size, 0)
      log(`round ${round}: ${acked} acknowledged so far; back after ${Math.round(server.startMs)} ms`)
    }
    runFleet(fleet, server, key)
    await settle(fleet)
    const api = server.api(key)
    await api.drain(settleTimeoutMs)
    const findings: Findings = { stored: 0, missing: [], twice: [], wrong: [], neverSent: [] }
    for (const [id, device] of fleet.mqtt) await compareWithLedger(api, id, device.ledger, tsMs => tsMs, findings)
    for (const device of fleet.http) await compareWithLedger(api, device.id, device.ledger, (_tsMs, value) => value, findings)
    const devices = [...fleet.mqtt.values(), ...fleet.http]
    for (const device of fleet.mqtt.values()) device.close()
    await sealed(server)
    await options.atEnd?.(server, key, findings.stored)
    await server.stop()
    const verified = await verifyEmbedded(directory)
    return {
      sent: devices.reduce((sum, device) => sum + device.ledger.sent.size, 0),
      acked: devices.reduce((sum, device) => sum + device.ledger.acked.size, 0),
      redelivered: [...fleet.mqtt.values()].reduce((sum, device) => sum + device.redelivered, 0) + fleet.http.reduce((sum, device) => sum + device.repeats, 0),
      kills: options.rounds,
      sealedBuckets: verified.buckets,
      tierDifferences: verified.differences,
      ...findings
    }
  } finally {
    for (const device of fleet?.mqtt.values() ?? []) device.close()
    await server.kill()
  }
}
