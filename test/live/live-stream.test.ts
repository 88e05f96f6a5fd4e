import t, { type Test } from 'tap'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'
import { watchLive, watchReady, type LiveClient } from './live-client.js'

interface World { readonly server: TestServer, readonly key: string, readonly api: TwinfoldApi, readonly tokens: ReadonlyMap<string, string> }

async function world (t: Test, devices: readonly string[], settings: Record<string, string> = {}): Promise<World> {
  const { directory, remove } = await temporaryDirectory('live')
  const server = await startServer({ directory, settings: { TWINFOLD_PACK_THREADS: '2', TWINFOLD_QUERY_THREADS: '1', TWINFOLD_SLICE_INTERVAL_MS: '20', ...settings } })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const key = await server.api(testAdminKey).createTenant('acme', 365)
  const api = server.api(key)
  const tokens = await api.createDevices(devices)
  return { server, key, api, tokens: new Map(devices.map((id, at) => [id, tokens[at]])) }
}

const send = async ({ api }: Pick<World, 'api'>, device: string, body: unknown): Promise<void> => {
  const { status } = await api.ask('POST', `/devices/${device}/telemetry`, body)
  if (status !== 202) throw new Error(`telemetry was answered with ${status}`)
}

/** Every reading of these tests carries its number as metric `n`. */
const numbersOf = (client: LiveClient): number[] => client.of('reading').map(({ data }) => (data.values as { n: number }).n)

/** Numbers in (after, last] that did not come. */
function missing (after: number, last: number, client: LiveClient): number[] {
  const got = new Set(numbersOf(client))
  return Array.from({ length: Math.max(0, last - after) }, (_, at) => after + 1 + at).filter(n => !got.has(n))
}

t.test('latest values come first, then every reading of the chosen devices and metrics, late ones too', async t => {
  const w = await world(t, ['a', 'b', 'c'])
  const nowMs = Date.now()
  await send(w, 'a', { ts: nowMs - 5000, values: { temperature: 20.5, on: true } })
  await send(w, 'b', { ts: nowMs - 5000, values: { temperature: 1 } })
  await w.api.drain(10_000)
  const all = await watchReady(w.server.httpUrl, 'devices=a,b&times=ms', w)
  const one = await watchReady(w.server.httpUrl, 'devices=a&metrics=temperature', w)
  t.teardown(() => { all.close(); one.close() })
  t.strictSame(all.of('latest').map(({ data }) => data).sort((x, y) => String(x.device) < String(y.device) ? -1 : 1), [
    { device: 'a', latest: { on: { ts: nowMs - 5000, value: true }, temperature: { ts: nowMs - 5000, value: 20.5 } } },
    { device: 'b', latest: { temperature: { ts: nowMs - 5000, value: 1 } } }
  ])
  await send(w, 'a', [{ ts: nowMs, values: { temperature: 21, text: 'ü\n"' } }, { ts: nowMs - 60_000, values: { temperature: 3 } }, { ts: nowMs + 1, values: { other: 1 } }])
  await send(w, 'c', { ts: nowMs, values: { temperature: 99 } })
  await send(w, 'b', { ts: nowMs, values: { temperature: 2 } })
  await all.until(client => client.of('reading').length >= 4)
  // Slices that were packed side by side come in any order; readings of one slice as they arrived.
  t.strictSame(all.of('reading').map(({ data }) => data).sort((x, y) => String(x.device) < String(y.device) ? -1 : x.device === y.device ? 0 : 1), [
    { device: 'a', ts: nowMs, values: { temperature: 21, text: 'ü\n"' } },
    { device: 'a', ts: nowMs - 60_000, values: { temperature: 3 } },
    { device: 'a', ts: nowMs + 1, values: { other: 1 } },
    { device: 'b', ts: nowMs, values: { temperature: 2 } }
  ])
  await one.until(client => client.of('reading').length >= 2)
  t.strictSame(one.of('reading').map(({ data }) => data), [
    { device: 'a', ts: new Date(nowMs).toISOString(), values: { temperature: 21 } },
    { device: 'a', ts: new Date(nowMs - 60_000).toISOString(), values: { temperature: 3 } }
  ])
  t.match(all.lastId, /^[0-9a-f]{16}\.\d+$/)
})

t.test('no reading is lost between the latest values and the stream, however the slices fall', async t => {
  const w = await world(t, ['a'], { TWINFOLD_SLICE_INTERVAL_MS: '5' })
  const startMs = Date.now() - 3_600_000
  let sent = 0
  let stop = false
  const sending = (async () => {
    for (; !stop; sent++) await send(w, 'a', { ts: startMs + sent, values: { n: sent } })
  })()
  for (let round = 0; round < 15; round++) {
    const client = await watchReady(w.server.httpUrl, 'devices=a&times=ms', w)
    await client.until(({ events }) => events.filter(({ event }) => event === 'reading').length >= 5)
    const [{ data: first }] = client.of('latest')
    const latest = (first.latest as { n?: { value: number } }).n?.value ?? -1
    const last = Math.max(...numbersOf(client))
    // Slices that were packed side by side come in any order, so the older one of two may still be on its way.
    await client.until(() => missing(latest, last, client).length === 0).catch(() => {})
    client.close()
    t.strictSame(missing(latest, last, client), [], `round ${round}: latest ${latest}, readings to ${last}`)
    t.equal(client.of('gap').length, 0)
  }
  stop = true
  await sending
})

t.test('type, tags and all choose devices; what is wrong is refused with the field', async t => {
  const w = await world(t, ['plain'])
  for (const [id, type, site] of [['p1', 'pump', 'north'], ['p2', 'pump', 'south'], ['v1', 'valve', 'north']]) {
    t.equal((await w.api.ask('POST', '/devices', { id, type, tags: { site } })).status, 201)
  }
  const watched = async (query: string): Promise<unknown[]> => {
    const client = await watchReady(w.server.httpUrl, query, w)
    client.close()
    return client.of('latest').map(({ data }) => data.device).sort()
  }
  t.strictSame(await watched('type=pump'), ['p1', 'p2'])
  t.strictSame(await watched('tag=site=north'), ['p1', 'v1'])
  t.strictSame(await watched('type=pump&tag=site=north'), ['p1'])
  t.strictSame(await watched('all=true'), ['p1', 'p2', 'plain', 'v1'])
  for (const [query, status, field] of [['', 400, 'devices'], ['devices=p1&all=true', 400, 'devices'], ['devices=a%20b', 400, 'devices'], ['devices=p1&metrics=', 400, 'metrics'], ['tag=x', 400, 'tag'], ['devices=nobody', 404, undefined]] as const) {
    const client = await watchLive(w.server.httpUrl, query, w)
    await client.until(({ body, ended }) => body !== '' && ended)
    t.equal(client.status, status, query)
    t.equal((JSON.parse(client.body) as { field?: string }).field, field, query)
  }
  const all = await watchReady(w.server.httpUrl, 'all=true', w)
  t.teardown(() => { all.close() })
  t.equal((await w.api.ask('POST', '/devices', { id: 'later' })).status, 201)
  await send(w, 'later', { n: 1 })
  await all.until(client => client.of('reading').some(({ data }) => data.device === 'later'))
  const token = w.tokens.get('plain') as string
  t.equal((await watchLive(w.server.httpUrl, 'all=true', { key: token })).status, 403)
  t.equal((await watchLive(w.server.httpUrl, 'devices=p1', { key: token })).status, 404)
  const own = await watchReady(w.server.httpUrl, 'devices=plain', { key: token })
  t.equal(own.status, 200)
  own.close()
})

t.test('a tenant gets nothing of another, whatever it watches', async t => {
  const w = await world(t, ['a'])
  const otherKey = await w.server.api(testAdminKey).createTenant('bolt', 365)
  const other = { ...w, api: w.server.api(otherKey), key: otherKey }
  await other.api.createDevice('a')
  const mine = await watchReady(w.server.httpUrl, 'all=true', w)
  const theirs = await watchReady(w.server.httpUrl, 'devices=a', other)
  t.teardown(() => { mine.close(); theirs.close() })
  await send(w, 'a', { n: 1 })
  await send(other, 'a', { n: 2 })
  await mine.until(client => client.of('reading').length > 0)
  await theirs.until(client => client.of('reading').length > 0)
  await new Promise(resolve => { setTimeout(resolve, 200) })
  t.strictSame(mine.of('reading').map(({ data }) => data.values), [{ n: 1 }])
  t.strictSame(theirs.of('reading').map(({ data }) => data.values), [{ n: 2 }])
})

t.test('a watcher that comes back with its last id misses nothing, and hears of a gap where that is not known', async t => {
  const w = await world(t, ['a'])
  const first = await watchReady(w.server.httpUrl, 'devices=a&times=ms', w)
  await send(w, 'a', { ts: 1000 + Date.now(), values: { n: 1 } })
  await first.until(client => client.of('reading').length === 1)
  first.close()
  for (const n of [2, 3, 4]) await send(w, 'a', { ts: 1000 + Date.now(), values: { n } })
  await w.api.drain(10_000)
  const second = await watchReady(w.server.httpUrl, 'devices=a&times=ms', { ...w, lastId: first.lastId })
  await second.until(client => client.of('reading').length >= 3)
  t.strictSame([...new Set(second.of('reading').map(({ data }) => (data.values as { n: number }).n))].filter(n => n > 1), [2, 3, 4])
  t.equal(second.of('gap').length, 0)
  t.equal(second.of('latest').length, 0)
  second.close()
  const third = await watchReady(w.server.httpUrl, 'devices=a&times=ms', { ...w, lastId: '0123456789abcdef.42' })
  t.equal(third.of('gap').length, 1)
  t.equal(third.of('latest').length, 1)
  third.close()
})

t.test('a watcher is told when its credential is revoked and when the server stops', async t => {
  const w = await world(t, ['a'])
  const { body } = await w.api.ask('POST', '/keys', { role: 'viewer' })
  const viewer = body as { id: string, secret: string }
  const revoked = await watchReady(w.server.httpUrl, 'devices=a', { key: viewer.secret })
  const other = await watchReady(w.server.httpUrl, 'devices=a', w)
  const device = await watchReady(w.server.httpUrl, 'devices=a', { key: w.tokens.get('a') as string })
  t.equal((await w.api.ask('DELETE', `/keys/${viewer.id}`)).status, 204)
  await revoked.until(client => client.ended)
  t.equal(revoked.events.at(-1)?.event, 'revoked')
  t.notOk(other.ended)
  t.ok((await w.api.ask('DELETE', '/devices/a')).status < 300)
  await device.until(client => client.ended)
  t.equal(device.events.at(-1)?.event, 'revoked')
  const startMs = performance.now()
  t.equal(await w.server.stop(), 0)
  await other.until(client => client.ended)
  t.equal(other.events.at(-1)?.event, 'closing')
  t.ok(performance.now() - startMs < 8000, 'a stream does not hold up the end')
})

t.test('readings come within half a second of being sent, for many watchers', async t => {
  const w = await world(t, Array.from({ length: 10 }, (_, at) => `d${at}`), { TWINFOLD_SLICE_INTERVAL_MS: '20' })
  const clients: LiveClient[] = []
  for (let at = 0; at < 60; at++) clients.push(await watchReady(w.server.httpUrl, `devices=d${at % 10},d${(at + 1) % 10}&times=ms`, w))
  t.teardown(() => { for (const client of clients) client.close() })
  const sentMs: number[] = []
  for (let n = 0; n < 200; n++) {
    sentMs[n] = performance.now()
    await send(w, `d${n % 10}`, { ts: Date.now(), values: { n } })
  }
  await Promise.all(clients.map(async client => { await client.until(({ events }) => events.filter(({ event }) => event === 'reading').length >= 40, 20_000) }))
  const delays = clients.flatMap(client => client.of('reading').map(({ data, atMs }) => atMs - sentMs[(data.values as { n: number }).n])).sort((a, b) => a - b)
  t.equal(delays.length, 60 * 40)
  t.comment(`publish to event: p50 ${delays[delays.length >> 1].toFixed(1)} ms, p99 ${delays[Math.floor(delays.length * 0.99)].toFixed(1)} ms`)
  t.ok(delays[Math.floor(delays.length * 0.99)] < 500)
})
