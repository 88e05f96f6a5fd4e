/** Retention of raw readings and of tiers, changed over HTTP: answers follow at once. */
import t from 'tap'
import { startServer, temporaryDirectory, testAdminKey } from '../support/server.js'
import { metricOf, until } from './server-metrics.js'

t.setTimeout(120_000)

const dayMs = 86_400_000

interface Windows { readonly windows: readonly unknown[], readonly series: readonly { readonly values: readonly (number | null)[] }[] }

void t.test('a shorter and a longer retention, of raw and of each tier, are in answers at once', { timeout: 110_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('retention')
  const server = await startServer({ directory, settings: { TWINFOLD_SEAL_AFTER_MS: '200', TWINFOLD_MERGE_AFTER_MS: '1000', TWINFOLD_ANALYTICS: 'off' } })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const admin = server.api(testAdminKey)
  const api = server.api(await admin.createTenant('acme', 365))
  await api.createDevices(['d'])
  const today = Math.floor(Date.now() / dayMs) * dayMs
  const ages = [40, 20, 5]
  const sent = await api.ask('POST', '/devices/d/telemetry', ages.flatMap(age => [0, 1].map(hour => ({ ts: today - age * dayMs + hour * 3_600_000, values: { temperature: age } }))))
  t.equal(sent.status, 202, JSON.stringify(sent.body))
  await until(async () => await metricOf(server, 'twinfold_sealer_sealed_total') >= ages.length, 60_000)

  const change = async (settings: object): Promise<void> => {
    const { status, body } = await admin.ask('PATCH', '/tenants/acme', settings)
    t.equal(status, 200, JSON.stringify(body))
  }
  const raw = async (): Promise<number> => {
    const { status, body } = await api.ask('GET', `/devices/d/telemetry?from=${today - 60 * dayMs}&to=${today + dayMs}`)
    t.equal(status, 200, JSON.stringify(body))
    return (body as { readings: unknown[] }).readings.length
  }
  const counted = async (tier: string): Promise<number> => {
    const { status, body } = await api.ask('GET', `/devices/d/aggregates?from=${today - 60 * dayMs}&to=${today + dayMs}&step=1d&agg=count&metrics=temperature&tier=${tier}`)
    t.equal(status, 200, JSON.stringify(body))
    return (body as Windows).series.flatMap(({ values }) => values).reduce<number>((sum, value) => sum + (value ?? 0), 0)
  }
  const all = async () => ({ raw: await raw(), fromRaw: await counted('raw'), '1m': await counted('1m'), '1h': await counted('1h'), '1d': await counted('1d') })

  t.same(await all(), { raw: 6, fromRaw: 6, '1m': 6, '1h': 6, '1d': 6 })
  await change({ retentionDays: 30 })
  t.same(await all(), { raw: 4, fromRaw: 4, '1m': 6, '1h': 6, '1d': 6 }, 'tiers are kept for as long as they say')
  await change({ tierRetention: { '1m': 10 } })
  t.same(await all(), { raw: 4, fromRaw: 4, '1m': 2, '1h': 6, '1d': 6 })
  await change({ tierRetention: { '1h': 30, '1d': 10 } })
  t.same(await all(), { raw: 4, fromRaw: 4, '1m': 2, '1h': 4, '1d': 2 })
  await change({ retentionDays: 365, tierRetention: { '1m': 25, '1h': 1825, '1d': 3650 } })
  t.same(await all(), { raw: 6, fromRaw: 6, '1m': 4, '1h': 6, '1d': 6 }, 'what is still there is answered again')
  t.equal(await server.stop(), 0)
})
