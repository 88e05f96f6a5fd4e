import t from 'tap'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { DrillHttpDevice, DrillMqttDevice } from '../support/drill-device.js'
import { compareWithLedger, type Findings } from '../support/kill-drill.js'
import { startServer, temporaryDirectory, testAdminKey } from '../support/server.js'
import { SmallDisk } from '../support/small-disk.js'

/** The disk-full drill (`npm run drill:disk-full`, not part of `npm test`); INVARIANTS 1 and 10. */
const diskBytes = 384 * 1024 * 1024
const cycles = 2
const timeoutMs = 60_000

/** Polls until `holds`; false after a minute. */
async function until (holds: () => boolean | Promise<boolean>): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs
  while (!await holds()) {
    if (performance.now() > deadlineMs) return false
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  return true
}

t.setTimeout(600_000)

void t.test('a full disk refuses, recovers when space is freed, and loses nothing acknowledged', { timeout: 600_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('disk-full')
  t.teardown(remove)
  const disk = await SmallDisk.mount(directory, diskBytes)
  if (typeof disk === 'string') {
    t.comment(`skipped: ${disk}`)
    t.pass(`skipped: ${disk}`, { skip: disk })
    return
  }
  t.teardown(async () => { await disk.unmount() })
  let server = await startServer({ directory })
  t.teardown(async () => { await server.kill() })
  const key = await server.api(testAdminKey).createTenant('drill', 365)
  const api = server.api(key)
  const [token] = await api.createDevices(['mqtt-0', 'http-0', 'bulk'])
  const mqtt = new DrillMqttDevice({ clientId: 'mqtt-0', token, inFlight: 100, firstTsMs: Date.now() - 3600_000, ratePerSecond: 500 })
  const http = new DrillHttpDevice('http-0', 5, seededRandom(1))
  t.teardown(() => { mqtt.close() })
  mqtt.run(server.mqttPort)
  http.run(api)
  // What the journal has already reserved must be used up before anything is refused: large readings do that.
  const pad = 'x'.repeat(60_000)
  for (let cycle = 1; cycle <= cycles; cycle++) {
    t.ok(await until(() => mqtt.ledger.acked.size > 200 * cycle && http.accepted > 5 * cycle), `cycle ${cycle}: readings are accepted`)
    disk.fill()
    let bulkStatus = 0
    const full = await until(async () => {
      const body = JSON.stringify(Array.from({ length: 50 }, () => ({ pad: pad + Math.random() })))
      bulkStatus = (await api.ask('POST', '/devices/bulk/telemetry', body)).status
      return bulkStatus === 503
    })
    t.ok(full, `cycle ${cycle}: HTTP answers 503 when the disk is full, not ${bulkStatus}`)
    const ackedBefore = mqtt.ledger.acked.size
    await new Promise(resolve => { setTimeout(resolve, 1000) })
    const ackedAtFull = mqtt.ledger.acked.size
    t.ok(ackedAtFull - ackedBefore <= 100, `cycle ${cycle}: MQTT acknowledges nothing while the disk is full (${ackedAtFull - ackedBefore} at the edge)`)
    t.ok(server.running, `cycle ${cycle}: the server still runs`)
    disk.free()
    const acceptedAtFull = http.accepted
    t.ok(await until(() => mqtt.ledger.acked.size > ackedAtFull + 200 && http.accepted > acceptedAtFull), `cycle ${cycle}: it accepts again after space was freed`)
  }
  mqtt.stopProducing()
  await http.finish()
  t.ok(await until(() => mqtt.outstanding === 0), 'what was not acknowledged is acknowledged in the end')
  mqtt.close()
  await api.drain(timeoutMs)
  for (const when of ['while it runs', 'after a SIGKILL']) {
    const findings: Findings = { stored: 0, missing: [], twice: [], wrong: [], neverSent: [] }
    await compareWithLedger(server.api(key), 'mqtt-0', mqtt.ledger, tsMs => tsMs, findings)
    await compareWithLedger(server.api(key), 'http-0', http.ledger, (_tsMs, value) => value, findings)
    const { stored, ...wrong } = findings
    t.same(wrong, { missing: [], twice: [], wrong: [], neverSent: [] }, `${when}: every acknowledged reading is there once with its value, of ${stored}`)
    if (when === 'while it runs') {
      await server.kill()
      server = await startServer({ directory })
      await server.api(key).drain(timeoutMs)
    }
  }
})
