import t from 'tap'
import { replaySolar } from '../simulators/solar-replay.js'
import { bundledMonths, solarReadings } from '../simulators/solar-data.js'
import type { TwinfoldApi } from '../simulators/twinfold-api.js'
import { startServer, temporaryDirectory, testAdminKey } from './support/server.js'

const devices = 3
/** The data is of 2017. */
const retentionDays = 36_500

/** Every row of the files against what the API answers for the device; the number of rows, or what differs first. */
async function difference (api: TwinfoldApi, device: string): Promise<number | string> {
  const expected = solarReadings(bundledMonths())
  let rows = 0
  for await (const { ts, values } of api.readings(device, Date.UTC(2017, 0), Date.UTC(2018, 0), 5000)) {
    const row = expected.next()
    if (row.done === true) return `row ${rows} at ${ts} was never sent`
    if (ts !== row.value.tsMs) return `row ${rows}: ${ts} instead of ${row.value.tsMs}`
    const sent = JSON.parse(row.value.valuesJson) as Record<string, number | string>
    if (Object.keys(values).length !== Object.keys(sent).length) return `row ${rows} at ${ts}: other metrics`
    for (const [metric, value] of Object.entries(sent)) {
      if (!Object.is(values[metric], value)) return `row ${rows} at ${ts}: ${metric} is ${String(values[metric])} instead of ${String(value)}`
    }
    rows++
  }
  return expected.next().done === true ? rows : `only ${rows} rows`
}

t.setTimeout(120_000)

void t.test('a month of a real plant is in the store row for row and value for value, also after a restart', { timeout: 120_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('solar')
  t.teardown(remove)
  let server = await startServer({ directory })
  t.teardown(async () => { await server.kill() })
  const key = await server.api(testAdminKey).createTenant('plants', retentionDays)
  const rows = [...solarReadings(bundledMonths())].length
  const summary = await replaySolar({
    data: undefined, months: [], devices, devicePrefix: 'plant-', speed: Infinity, shift: false, staggerMs: 0, qos: 1, inFlight: 500, server: `mqtt://127.0.0.1:${server.mqttPort}`, http: server.httpUrl, key, tokens: [], quiet: true
  })
  t.equal(rows, 43_166, 'the month has its rows')
  t.equal(summary.acked, rows * devices, 'every row was acknowledged')
  await server.api(key).drain(60_000)
  for (let k = 0; k < devices; k++) t.equal(await difference(server.api(key), `plant-${k}`), rows, `plant-${k}`)
  t.equal(await server.stop(), 0, 'a clean stop')
  server = await startServer({ directory })
  for (let k = 0; k < devices; k++) t.equal(await difference(server.api(key), `plant-${k}`), rows, `plant-${k} after a restart`)
})
