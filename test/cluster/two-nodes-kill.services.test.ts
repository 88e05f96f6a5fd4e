/**
 * INVARIANTS 1 and 3 over two nodes: devices move between them, one of them dies under load, and in the end everything that was
 * acknowledged is there exactly once: after the dead node's restart, or the adoption of its journal, or (ack: replicated)
 * without either.
 */
import { rm } from 'node:fs/promises'
import t from 'tap'
import { adoptJournal } from '../../src/adopt.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { DrillHttpDevice, DrillMqttDevice } from '../support/drill-device.js'
import { compareWithLedger, type Findings } from '../support/kill-drill.js'
import { skipWithout } from '../support/services.js'
import { pause, startTwoNodes, type NodeProcess, type TwoNodes } from './two-nodes.js'

const real = { timeout: 300_000 }

interface Fleet { readonly mqtt: Map<string, DrillMqttDevice>, readonly http: DrillHttpDevice[] }

async function newFleet (nodes: TwoNodes, mqttDevices: number, httpDevices: number, seed: number): Promise<Fleet> {
  const ids = Array.from({ length: mqttDevices }, (_, i) => `mqtt-${i}`)
  const tokens = await nodes.a.api.createDevices(ids)
  const firstTsMs = Date.now() - 3600_000
  const mqtt = new Map(ids.map((id, i) => [id, new DrillMqttDevice({ clientId: id, token: tokens[i], inFlight: 50, firstTsMs, ratePerSecond: 200 })]))
  const http = Array.from({ length: httpDevices }, (_, i) => new DrillHttpDevice(`http-${i}`, 5, seededRandom(seed + i)))
  await nodes.a.api.createDevices(http.map(({ id }) => id))
  return { mqtt, http }
}

/** MQTT devices and HTTP devices connect to a node each, by turns where there are two. */
function connect (fleet: Fleet, to: readonly NodeProcess[]): void {
  [...fleet.mqtt.values()].forEach((device, i) => { device.run(to[i % to.length].server.mqttPort) })
  fleet.http.forEach((device, i) => { device.run(to[(i + 1) % to.length].api) })
}

/** Everything outstanding is acknowledged. */
async function settle (fleet: Fleet): Promise<number> {
  for (const device of fleet.mqtt.values()) device.stopProducing()
  await Promise.all(fleet.http.map(async device => { await device.finish() }))
  const deadlineMs = performance.now() + 60_000
  for (const [id, device] of fleet.mqtt) {
    while (device.outstanding > 0) {
      if (performance.now() > deadlineMs) throw new Error(`${id}: ${device.outstanding} publishes were not acknowledged`)
      await pause(10)
    }
    device.close()
  }
  return [...fleet.mqtt.values(), ...fleet.http].reduce((sum, device) => sum + device.ledger.acked.size, 0)
}

async function compare (fleet: Fleet, node: NodeProcess): Promise<Findings> {
  const findings: Findings = { stored: 0, missing: [], twice: [], wrong: [], neverSent: [] }
  for (const [id, device] of fleet.mqtt) await compareWithLedger(node.api, id, device.ledger, tsMs => tsMs, findings)
  for (const device of fleet.http) await compareWithLedger(node.api, device.id, device.ledger, (_tsMs, value) => value, findings)
  return findings
}

const right = { missing: [], twice: [], wrong: [], neverSent: [] }

function closeWith (t: { teardown(undo: () => unknown): unknown }, fleet: Fleet): void {
  t.teardown(() => { for (const device of fleet.mqtt.values()) device.close() })
}

void t.test('devices that move between the nodes all the time are counted once, by both', real, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const nodes = await startTwoNodes(t, { skewMs: [0, -150] })
  const fleet = await newFleet(nodes, 6, 3, 1)
  closeWith(t, fleet)
  for (let round = 0; round < 10; round++) {
    connect(fleet, round % 2 === 0 ? [nodes.a, nodes.b] : [nodes.b, nodes.a])
    await pause(400)
  }
  const acked = await settle(fleet)
  await nodes.drain()
  for (const node of nodes.nodes) t.match(await compare(fleet, node), right, `${acked} acknowledged, read at ${node.name}`)
  const redelivered = [...fleet.mqtt.values()].reduce((sum, device) => sum + device.redelivered, 0)
  t.ok(redelivered > 20, `${redelivered} sent again`)
})

for (const ending of ['restart', 'adopt'] as const) {
  void t.test(`a node is killed under load and its devices go to the other: everything acknowledged is there once after ${ending === 'restart' ? 'its restart' : 'the adoption of its journal'}`, real, async t => {
    if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
    // Slices are rare, so that much is in the dead node's journal alone.
    const nodes = await startTwoNodes(t, { settings: { TWINFOLD_SLICE_INTERVAL_MS: '1000' } })
    const fleet = await newFleet(nodes, 6, 3, 2)
    closeWith(t, fleet)
    connect(fleet, [nodes.a, nodes.b])
    await pause(2500)
    await nodes.a.kill()
    connect(fleet, [nodes.b])
    await pause(2000)
    const acked = await settle(fleet)
    await nodes.drain()
    const before = await compare(fleet, nodes.b)
    t.match(before, { ...right, missing: Array }, 'until then nothing is there twice or wrong')
    t.comment(`${acked} acknowledged; at least ${before.missing.length} of them wait in the dead node's journal`)
    if (ending === 'restart') {
      await nodes.a.start()
      await nodes.drain()
      t.match(await compare(fleet, nodes.a), right)
    } else {
      const options = { directory: nodes.a.directory, store: nodes.store, packThreads: 1, nodes: [], clock: systemClock, log: silentLog }
      const result = await adoptJournal(options)
      t.match(result, { already: false, damagedRecords: 0 })
      t.match(await adoptJournal(options), { already: true })
      await t.rejects(nodes.a.start(), /was adopted/)
    }
    t.match(await compare(fleet, nodes.b), right, `${acked} acknowledged`)
  })
}

void t.test('ack: replicated: what was acknowledged is there without the dead node and its disk', real, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const nodes = await startTwoNodes(t, { settings: { TWINFOLD_ACK: 'replicated' } })
  const fleet = await newFleet(nodes, 6, 3, 3)
  closeWith(t, fleet)
  connect(fleet, [nodes.a, nodes.b])
  await pause(2500)
  await nodes.a.kill()
  await rm(nodes.a.directory, { recursive: true })
  connect(fleet, [nodes.b])
  await pause(1500)
  const acked = await settle(fleet)
  // Only what was never acknowledged at the dead node may be in its journal, and it was sent again.
  const found = await compare(fleet, nodes.b)
  t.match(found, right, `${acked} acknowledged`)
  await latencies(t, nodes)
})

/** For docs/adr/0008: how long a lone publish and a keyed request wait for their acknowledgement. */
async function latencies (t: { comment(text: string): unknown }, nodes: TwoNodes): Promise<void> {
  const quantiles = (times: number[]): string => {
    times.sort((x, y) => x - y)
    return `p50 ${times[Math.floor(times.length / 2)].toFixed(1)} ms, p99 ${times[Math.floor(times.length * 0.99)].toFixed(1)} ms`
  }
  await nodes.b.api.createDevice('lone')
  for (const keyed of [false, true]) {
    const times: number[] = []
    for (let i = 0; i < 200; i++) {
      const startMs = performance.now()
      const { status } = await nodes.b.api.ask('POST', '/devices/lone/telemetry', { v: i }, keyed ? { 'idempotency-key': `k${i}` } : {})
      if (status !== 202) throw new Error(`${status}`)
      times.push(performance.now() - startMs)
    }
    t.comment(`ack: replicated, HTTP ${keyed ? 'with' : 'without'} Idempotency-Key: ${quantiles(times)}`)
  }
}
