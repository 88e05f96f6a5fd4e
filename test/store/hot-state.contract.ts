/** What every hot state keeps, whatever order, repetition and damage its writes meet. */
import type { Test } from 'tap'
import { hotMetricsPerDeviceMax, hotStringBytesMax } from '../../src/core/limits.js'
import type { Value } from '../../src/core/reading.js'
import type { HotState, LatestValue } from '../../src/store/hot-state.js'
import { newSeed, newTenantId, randomFrom } from './store-fixtures.js'

const journalA = '00000000000000aa'
const journalB = '00000000000000bb'

export function latest (metric: string, ts: number, value: Value, more: Partial<LatestValue> = {}): LatestValue {
  return { metric, ts, value, stamp: ts, journalId: journalA, ...more }
}

/** A value as text that tells every double apart. */
const shown = ({ metric, ts, stamp, journalId, value }: LatestValue): string => {
  const bytes = Buffer.alloc(8)
  if (typeof value === 'number') bytes.writeDoubleBE(value)
  return `${metric} ${ts} ${stamp} ${journalId} ${typeof value === 'number' ? bytes.toString('hex') : JSON.stringify(value)}`
}

export function hotContract (t: Test, open: () => Promise<HotState>): void {
  const fill = async (hot: HotState, tenant: string, device: string, values: readonly LatestValue[], generation = 'g'): Promise<void> => {
    const { basis } = await hot.getLatest(tenant, device, generation)
    await hot.fillLatest({ tenant, device, values }, basis as string)
  }

  void t.test('hot: every value comes back with its type and every bit', async t => {
    const hot = await open()
    const tenant = newTenantId()
    const values = [
      latest('a', 1, 0), latest('b', 2, -0), latest('c', 3, NaN), latest('d', 4, Infinity), latest('e', 5, -Infinity), latest('f', 6, 5e-324), latest('g', 7, Number.MAX_VALUE), latest('h', 8, 0.1),
      latest('i', 9, true), latest('j', 10, false), latest('k', 11, ''), latest('l', 12, 'ü\n\0"\\ 😀'), latest('m', 13, '1'), latest('n', Number.MAX_SAFE_INTEGER, 1), latest('', 0, 1),
      latest('x'.repeat(128), 1, 's'.repeat(hotStringBytesMax)), latest('c ', 1, 1), latest('é', 1, 1, { journalId: '' })
    ]
    await hot.putLatest([{ tenant, device: 'a:b@c', values }])
    const known = await hot.getLatest(tenant, 'a:b@c', 'g')
    t.strictSame(known.values.map(shown), [...values].sort((a, b) => a.metric < b.metric ? -1 : 1).map(shown))
    t.equal(known.complete, false, 'what was put is not all there is')
    t.strictSame((await hot.getLatest(tenant, 'a', 'g')).values, [])
    t.strictSame((await hot.getLatest(newTenantId(), 'a:b@c', 'g')).values, [], 'another tenant sees nothing')
  })

  void t.test('hot: the same values stand in the end, whatever order and repetition they come in', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const hot = await open()
    const tenant = newTenantId()
    const puts: LatestValue[] = []
    for (let i = 0; i < 300; i++) {
      const metric = `m${Math.floor(random() * 8)}`
      const ts = 1_750_000_000_000_000 + Math.floor(random() * 20)
      const journalId = random() < 0.5 ? journalA : journalB
      const stamp = ts + Math.floor(random() * 3)
      // One journal gives one value for a stamp.
      puts.push(latest(metric, ts, `${metric}-${ts}-${stamp}-${journalId}`, { stamp, journalId }))
    }
    const expected = new Map<string, LatestValue>()
    for (const put of puts) {
      const other = expected.get(put.metric)
      if (other === undefined || put.ts > other.ts || (put.ts === other.ts && (put.stamp > other.stamp || (put.stamp === other.stamp && put.journalId > other.journalId)))) expected.set(put.metric, put)
    }
    for (const device of ['one', 'two', 'three']) {
      const order = [...puts, ...puts.slice(0, 100)].map(put => ({ put, at: random() })).sort((a, b) => a.at - b.at).map(({ put }) => put)
      const pieces: LatestValue[][] = []
      while (order.length > 0) {
        const piece = new Map<string, LatestValue>()
        for (const put of order.splice(0, 1 + Math.floor(random() * 5))) if (!piece.has(put.metric)) piece.set(put.metric, put)
        else order.push(put)
        pieces.push([...piece.values()])
      }
      await Promise.all(pieces.map(async values => { await hot.putLatest([{ tenant, device, values }]) }))
      t.strictSame((await hot.getLatest(tenant, device, 'g')).values.map(shown), [...expected.values()].sort((a, b) => a.metric < b.metric ? -1 : 1).map(shown), `seed ${seed}`)
    }
  })

  void t.test('hot: a device is complete from its filling to the next generation', async t => {
    const hot = await open()
    const tenant = newTenantId()
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 10, 1)] }])
    await fill(hot, tenant, 'd', [latest('t', 9, 0), latest('p', 5, 2, { journalId: '' })])
    const known = await hot.getLatest(tenant, 'd', 'g')
    t.equal(known.complete, true)
    t.strictSame(known.values.map(({ metric, value }) => [metric, value]), [['p', 2], ['t', 1]], 'a filling never makes a value older')
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 11, 3), latest('new', 11, 4)] }])
    t.equal((await hot.getLatest(tenant, 'd', 'g')).complete, true, 'what is put belongs to it')
    t.equal((await hot.getLatest(tenant, 'd', 'h')).complete, false, 'another generation')
    t.equal((await hot.getLatest(tenant, 'd', null)).complete, false, 'a generation that cannot be told')
    await fill(hot, tenant, 'd', [], 'h')
    t.equal((await hot.getLatest(tenant, 'd', 'h')).complete, true)
    await fill(hot, tenant, 'empty', [])
    t.strictSame(await hot.getLatest(tenant, 'empty', 'g').then(({ values, complete }) => ({ values, complete })), { values: [], complete: true }, 'that there is nothing is an answer')
  })

  void t.test('hot: a tie that cannot be decided is left to the store', async t => {
    const hot = await open()
    const tenant = newTenantId()
    await fill(hot, tenant, 'd', [latest('t', 10, 1, { journalId: '' })])
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 10, 1)] }])
    t.equal((await hot.getLatest(tenant, 'd', 'g')).complete, true, 'the same value is no tie')
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 10, 2)] }])
    t.equal((await hot.getLatest(tenant, 'd', 'g')).complete, false)
    await fill(hot, tenant, 'd', [latest('t', 10, 2, { journalId: journalB })])
    t.equal((await hot.getLatest(tenant, 'd', 'g')).complete, false, 'still undecided')
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 11, 3)] }])
    await fill(hot, tenant, 'd', [latest('t', 10, 2, { journalId: '' })])
    t.equal((await hot.getLatest(tenant, 'd', 'g')).complete, true)
  })

  void t.test('hot: what is too large or too much is not kept, and never passed over for something older', async t => {
    const hot = await open()
    const tenant = newTenantId()
    await fill(hot, tenant, 'd', [latest('log', 10, 'short'), latest('t', 1, 1)])
    await hot.putLatest([{ tenant, device: 'd', values: [latest('log', 11, 'l'.repeat(hotStringBytesMax + 1))] }])
    let known = await hot.getLatest(tenant, 'd', 'g')
    t.strictSame([known.values.map(({ metric }) => metric), known.complete, known.basis], [['t'], false, null])
    await hot.putLatest([{ tenant, device: 'd', values: [latest('log', 12, 'short again')] }])
    known = await hot.getLatest(tenant, 'd', 'g')
    t.strictSame([known.values.map(({ value }) => value), known.complete], [['short again', 1], true])
    const many = Array.from({ length: hotMetricsPerDeviceMax + 200 }, (_, i) => latest(`m${i}`, 1, i))
    await hot.putLatest([{ tenant, device: 'wide', values: many }])
    known = await hot.getLatest(tenant, 'wide', 'g')
    t.ok(known.values.length <= hotMetricsPerDeviceMax && known.values.length > hotMetricsPerDeviceMax - 5, `${known.values.length} kept`)
    t.strictSame([known.complete, known.basis], [false, null])
    await hot.putLatest([{ tenant, device: 'wide', values: [latest('m5', 2, -5)] }])
    t.equal((await hot.getLatest(tenant, 'wide', 'g')).values.find(({ metric }) => metric === 'm5')?.value, -5, 'known metrics go on')
    await hot.putLatest([{ tenant, device: 'full', values: many.slice(0, hotMetricsPerDeviceMax - 1) }])
    await fill(hot, tenant, 'full', many.slice(0, hotMetricsPerDeviceMax - 1))
    t.equal((await hot.getLatest(tenant, 'full', 'g')).complete, true)
  })

  void t.test('hot: a forgotten device takes nothing from before the erasure', async t => {
    const hot = await open()
    const tenant = newTenantId()
    await fill(hot, tenant, 'd', [latest('t', 10, 1)])
    await hot.forgetDevice(tenant, 'd', 100)
    await hot.forgetDevice(tenant, 'd', 50)
    await hot.putLatest([{ tenant, device: 'd', values: [latest('t', 99, 1), latest('p', 5, 2, { stamp: 100 })] }])
    const known = await hot.getLatest(tenant, 'd', 'g')
    t.strictSame([known.values.map(({ metric }) => metric), known.complete], [['p'], false])
  })

  void t.test('hot: many devices in one call', async t => {
    const hot = await open()
    const tenant = newTenantId()
    const devices = Array.from({ length: 1500 }, (_, i) => ({ tenant, device: `d${i}`, values: Array.from({ length: 1 + i % 7 }, (_, m) => latest(`m${m}`, i, i * 10 + m)) }))
    await hot.putLatest([...devices, { tenant, device: 'none', values: [] }])
    await hot.putLatest([])
    for (const { device, values } of devices.filter((_, i) => i % 97 === 0)) t.strictSame((await hot.getLatest(tenant, device, 'g')).values.map(shown), values.map(shown))
  })
}
