import t from 'tap'
import { startServer, temporaryDirectory, testAdminKey } from '../support/server.js'
import { watchLive, watchReady, type LiveClient } from './live-client.js'

const numbersOf = (client: LiveClient): number[] => client.of('reading').map(({ data }) => (data.values as { n: number }).n)

t.test('a watcher that does not read costs bounded memory, slows nobody, and gets the newest values when it reads again', async t => {
  const { directory, remove } = await temporaryDirectory('live-slow')
  const server = await startServer({ directory, settings: { TWINFOLD_PACK_THREADS: '1', TWINFOLD_QUERY_THREADS: '1', TWINFOLD_SLICE_INTERVAL_MS: '20' } })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const key = await server.api(testAdminKey).createTenant('acme', 365)
  const api = server.api(key)
  await api.createDevices(['a', 'b'])
  const slow: LiveClient[] = []
  for (let at = 0; at < 20; at++) slow.push(await watchReady(server.httpUrl, 'devices=a,b&times=ms', { key }))
  const quick = await watchReady(server.httpUrl, 'devices=a,b&times=ms', { key })
  t.teardown(() => { for (const client of [quick, ...slow]) client.close() })
  for (const client of slow) client.pause()
  const text = 'x'.repeat(2000)
  const startMs = Date.now() - 3_600_000
  const perRequest = 50
  const requests = 400
  for (let at = 0; at < requests; at++) {
    const readings = Array.from({ length: perRequest }, (_, i) => ({ ts: startMs + at * perRequest + i, values: { n: at * perRequest + i, text } }))
    const { status } = await api.ask('POST', '/devices/a/telemetry', readings)
    if (status !== 202) throw new Error(String(status))
  }
  // Newer by event time than all that follows: a late point must not replace it.
  await api.ask('POST', '/devices/b/telemetry', [{ ts: startMs + 9000, values: { n: -1 } }, { ts: startMs, values: { n: -2 } }])
  await quick.until(client => numbersOf(client).includes(-2), 30_000)
  const rss = await api.metric('process_resident_memory_bytes')
  t.comment(`${requests * perRequest * text.length * slow.length / 1e6} MB were to be sent to those who do not read; the server holds ${Math.round((rss ?? 0) / 1e6)} MB`)
  t.ok((rss ?? Infinity) < 700e6, 'what is not read is not kept')
  const total = requests * perRequest + 2
  const got = quick.of('reading').length + quick.of('dropped').reduce((sum, { data }) => sum + (data.readings as number), 0)
  t.equal(got, total, 'every reading came or was counted')
  for (const client of slow) client.resume()
  await Promise.all(slow.map(async client => { await client.until(({ events }) => events.some(({ event }) => event === 'dropped'), 20_000) }))
  await Promise.all(slow.map(async client => {
    await client.until(() => client.of('reading').length + client.of('dropped').reduce((sum, { data }) => sum + (data.readings as number), 0) >= total, 20_000)
  }))
  await new Promise(resolve => { setTimeout(resolve, 200) })
  for (const client of slow) {
    const newest = new Map<string, { ts: number, value: unknown }>()
    for (const { event, data } of client.events) {
      if (event === 'latest') for (const [metric, value] of Object.entries(data.latest as Record<string, { ts: number, value: unknown }>)) newest.set(`${String(data.device)}/${metric}`, value)
      else if (event === 'reading') for (const [metric, value] of Object.entries(data.values as Record<string, unknown>)) if ((newest.get(`${String(data.device)}/${metric}`)?.ts ?? 0) <= (data.ts as number)) newest.set(`${String(data.device)}/${metric}`, { ts: data.ts as number, value })
    }
    t.strictSame(newest.get('a/n'), { ts: startMs + requests * perRequest - 1, value: requests * perRequest - 1 })
    t.strictSame(newest.get('b/n'), { ts: startMs + 9000, value: -1 })
    t.ok(client.of('dropped').length >= 1)
  }
  // It goes on for all of them.
  await api.ask('POST', '/devices/a/telemetry', { ts: Date.now(), values: { n: 7_000_000 } })
  await Promise.all([quick, ...slow].map(async client => { await client.until(() => numbersOf(client).includes(7_000_000)) }))
})

t.test('one more stream than the tenant may have gets 429, another tenant does not feel it, and a stream that ends makes room', async t => {
  const { directory, remove } = await temporaryDirectory('live-bounds')
  const server = await startServer({ directory, settings: { TWINFOLD_PACK_THREADS: '1', TWINFOLD_QUERY_THREADS: '1' } })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const keys: string[] = []
  for (const tenant of ['acme', 'bolt']) {
    const key = await server.api(testAdminKey).createTenant(tenant, 365)
    await server.api(key).createDevice('a')
    keys.push(key)
  }
  const clients: LiveClient[] = []
  t.teardown(() => { for (const client of clients) client.close() })
  for (let at = 0; at < 200; at++) clients.push(await watchLive(server.httpUrl, 'devices=a', { key: keys[0] }))
  t.ok(clients.every(({ status }) => status === 200))
  const refused = await watchLive(server.httpUrl, 'devices=a', { key: keys[0] })
  await refused.until(({ ended }) => ended)
  t.equal(refused.status, 429)
  t.equal((JSON.parse(refused.body) as { code: string }).code, 'throttled')
  const other = await watchReady(server.httpUrl, 'devices=a', { key: keys[1] })
  t.equal(other.status, 200)
  clients.push(other)
  clients[0].close()
  let status = 0
  for (let attempt = 0; attempt < 50 && status !== 200; attempt++) {
    await new Promise(resolve => { setTimeout(resolve, 20) })
    const again = await watchLive(server.httpUrl, 'devices=a', { key: keys[0] })
    ;({ status } = again)
    if (status === 200) clients.push(again)
  }
  t.equal(status, 200)
})
