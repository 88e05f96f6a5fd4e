/** Section `fleet`: the average over all devices of a tenant, by day, for 30 days, from analytics. Readings come through the front door. */
import type { BenchContext, Row } from './bench-context.js'
import { openQueryWorld, type Profile, type QueryWorld } from './query-world.js'

const days = 30
const readingsPerPost = 5000
const projectedTimeoutMs = 600_000
const hourMs = 3_600_000

async function send (world: QueryWorld, devices: readonly string[]): Promise<number> {
  const endMs = Math.floor(Date.now() / hourMs) * hourMs
  let lines: string[] = []
  let readings = 0
  const post = async (): Promise<void> => {
    const { status } = await world.api.ask('POST', '/telemetry', lines.join('\n'), { 'content-type': 'application/x-ndjson' })
    if (status === 429) {
      await new Promise(resolve => { setTimeout(resolve, 500) })
      await post()
      return
    }
    if (status !== 202) throw new Error(`readings were answered with ${status}`)
    readings += lines.length
    lines = []
  }
  for (let hour = days * 24; hour > 0; hour--) {
    for (let k = 0; k < devices.length; k++) {
      lines.push(`{"device":"${devices[k]}","ts":${endMs - hour * hourMs},"values":{"temperature":${(20 + Math.sin(hour / 24) * 5 + k % 10 / 10).toFixed(1)},"pressure":${1000 + (hour * k) % 30}}}`)
      if (lines.length === readingsPerPost) await post()
    }
  }
  if (lines.length > 0) await post()
  return readings
}

export async function fleetSection (context: BenchContext, profile: Profile, deviceCount: number): Promise<Row[]> {
  const devices = Array.from({ length: deviceCount }, (_, k) => `unit-${k}`)
  const world = await openQueryWorld({ profile, root: context.root, devices, settings: { TWINFOLD_ANALYTICS: 'on' }, load: async () => {} })
  try {
    const readings = await send(world, devices)
    await world.api.drain(projectedTimeoutMs)
    const count = '/fleet/query?metrics=temperature&agg=count&from=now-31d'
    const deadlineMs = performance.now() + projectedTimeoutMs
    for (;;) {
      const { rows } = JSON.parse((await world.ask(count)).body) as { rows: readonly { readonly values: { readonly count: number | string } }[] }
      const found = Number(rows[0]?.values.count ?? 0)
      if (found >= readings) break
      if (performance.now() > deadlineMs) throw new Error(`${found} of ${readings} readings are in analytics after ${projectedTimeoutMs} ms`)
      await new Promise(resolve => { setTimeout(resolve, 1000) })
    }
    const measured = await world.measure(() => '/fleet/query?metrics=temperature&agg=avg&from=now-30d&step=1d', { times: context.quick ? 20 : 100 })
    return [{
      section: 'fleet',
      what: `average of ${deviceCount} devices, 30 days by day, ${profile}`,
      figures: { readings, 'p50 ms': measured.p50Ms, 'p99 ms': measured.p99Ms, 'CPU ms/query (server alone)': measured.cpuMsPerQuery }
    }]
  } finally {
    await world.close()
  }
}
