/** Many dashboards at once while devices go on sending: each asks for a day of readings, a month by hours and a year by days, in turn. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import autocannon from 'autocannon'
import type { BenchContext, Row } from './bench-context.js'
import { runFleet } from './fleet-run.js'
import type { QueryWorld } from './query-world.js'

const senders = 50

export async function dashboardRows (context: BenchContext, world: QueryWorld, section: string, devices: readonly string[], { dashboards, messagesPerSecond }: { readonly dashboards: number, readonly messagesPerSecond: number }): Promise<Row[]> {
  const tokens = await world.api.createDevices(Array.from({ length: senders }, (_, k) => `sender-${k}`))
  const tokensFile = join(world.directory, 'sender-tokens')
  await writeFile(tokensFile, tokens.join('\n'))
  const seconds = context.quick ? 5 : 30
  const warmUpSeconds = 3
  const fleet = runFleet(['--port', world.server.mqttPort, '--connections', senders, '--tokens', tokensFile, '--rate', messagesPerSecond, '--seconds', seconds, '--warm-up-seconds', warmUpSeconds], world.server.pid)
  await new Promise(resolve => { setTimeout(resolve, warmUpSeconds * 1000) })
  const requests = devices.flatMap(device => [
    `/devices/${device}/telemetry?from=now-24h&order=asc&limit=2000&metrics=collector_temp_1&times=ms`, `/devices/${device}/aggregates?from=now-30d&step=1h&metrics=collector_temp_1`, `/devices/${device}/aggregates?from=now-365d&step=1d&metrics=collector_temp_1`
  ]).map(path => ({ method: 'GET', path: `/api/v1${path}` }))
  const asked = await autocannon({ url: world.server.httpUrl, connections: dashboards, duration: seconds, headers: { authorization: `Bearer ${world.key}` }, requests })
  const sent = await fleet
  return [{
    section,
    what: `${dashboards} dashboards at ${messagesPerSecond.toLocaleString('en-US')} messages/s`,
    figures: {
      'queries/s': asked.requests.average, 'p50 ms': asked.latency.p50, 'p99 ms': asked.latency.p99, 'not 200': asked.non2xx + asked.errors, 'messages/s': sent.messagesPerSecond, 'ack p99 ms': sent.p99Ms
    }
  }]
}
