import t from 'tap'
import { startTwoNodes } from '../cluster/two-nodes.js'
import { skipWithout } from '../support/services.js'
import { watchReady, type LiveClient } from './live-client.js'

const numbersOf = (client: LiveClient): number[] => client.of('reading').map(({ data }) => (data.values as { n: number }).n)

t.test('a watcher on one node sees what the other packs, without a gap after the latest values', async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const { a, b, key } = await startTwoNodes(t, { settings: { TWINFOLD_SLICE_INTERVAL_MS: '20' } })
  await a.api.createDevices(['pump', 'valve'])
  const startMs = Date.now() - 3_600_000
  let sent = 0
  let stop = false
  const send = async (device: string, n: number): Promise<void> => {
    const { status } = await b.api.ask('POST', `/devices/${device}/telemetry`, { ts: startMs + n, values: { n } })
    if (status !== 202) throw new Error(String(status))
  }
  const sending = (async () => {
    for (; !stop; sent++) await send('pump', sent)
  })()
  for (let round = 0; round < 5; round++) {
    const client = await watchReady(a.server.httpUrl, 'devices=pump&times=ms', { key })
    t.teardown(() => { client.close() })
    await client.until(() => numbersOf(client).length >= 5)
    const latest = ((client.of('latest')[0].data.latest as { n?: { value: number } }).n?.value ?? -1)
    const last = Math.max(...numbersOf(client))
    const wanted = Array.from({ length: Math.max(0, last - latest) }, (_, at) => latest + 1 + at)
    await client.until(() => wanted.every(n => numbersOf(client).includes(n)))
    t.strictSame(client.of('gap'), [], `round ${round}: latest ${latest}, readings to ${last}`)
    client.close()
  }
  stop = true
  await sending
  // The other way round, and both nodes at once.
  const onA = await watchReady(a.server.httpUrl, 'all=true&times=ms', { key })
  const onB = await watchReady(b.server.httpUrl, 'devices=valve&metrics=n&times=ms', { key })
  t.teardown(() => { onA.close(); onB.close() })
  t.equal((await a.api.ask('POST', '/devices/valve/telemetry', { ts: startMs, values: { n: 1, other: 2 } })).status, 202)
  await send('valve', 2)
  await onA.until(client => numbersOf(client).includes(1) && numbersOf(client).includes(2))
  await onB.until(client => numbersOf(client).includes(1) && numbersOf(client).includes(2))
  t.strictSame(onB.of('reading').map(({ data }) => data.values).sort((x, y) => (x as { n: number }).n - (y as { n: number }).n), [{ n: 1 }, { n: 2 }])
  // A node that dies is forgotten, and the other serves on.
  await b.kill()
  await onB.until(client => client.ended)
  t.equal((await a.api.ask('POST', '/devices/valve/telemetry', { ts: startMs + 9, values: { n: 9 } })).status, 202)
  await onA.until(client => numbersOf(client).includes(9))
  const later = await watchReady(a.server.httpUrl, 'devices=valve&times=ms', { key })
  t.teardown(() => { later.close() })
  t.equal(later.status, 200)
})
