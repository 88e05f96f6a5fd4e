/** What fleet search keeps, on either engine (src/store/twin-search.ts). */
import type { Test } from 'tap'
import fc from 'fast-check'
import { evaluateFilter, type FilterSubject } from '../../src/core/filter/evaluate-filter.js'
import { fieldsOf, type Filter } from '../../src/core/filter/filter.js'
import { parseFilter, parseFilterField } from '../../src/core/filter/parse-filter.js'
import { printFilter } from '../../src/core/filter/print-filter.js'
import type { SearchPosition, SearchSort } from '../../src/store/twin-search.js'
import { anyFilter, anySubject } from './filter-world.js'
import { nowUs, point, pointTime, queryOf, rowOf, type SearchEngine } from './search-world.js'

const metricsOf = (filter: Filter): Set<string> => new Set(fieldsOf(filter).filter(({ root }) => root === 'latest').map(({ path }) => path[0]))

export function searchContract (t: Test, engine: () => SearchEngine): void {
  const idsOf = async (tenant: string, text: string): Promise<readonly string[]> => await engine().search.findIds(queryOf(tenant, { filter: parseFilter(text) }), '', 1000)

  void t.test('search: what a filter finds is what it holds for, device for device', async t => {
    const { search, analytics } = engine()
    const seed = Number(process.env.SEED ?? Date.now() % 1e9)
    const [subjects] = fc.sample(fc.array(anySubject, { minLength: 150, maxLength: 150 }), { seed, numRuns: 1 })
    const devices = subjects.map((subject, i): FilterSubject => ({ ...subject, id: ['a', 'b', 'A', '1'][i] ?? `d-${i}` }))
    const others = devices.map((device, i): FilterSubject => ({ ...devices[(i * 7 + 1) % devices.length], id: device.id }))
    for (const [tenant, all] of [['prop', devices], ['prop2', others]] as const) {
      await search.putTwins(all.map(device => rowOf(tenant, device, 2)))
      const points = all.flatMap(device => Object.entries(device.latest ?? {}).map(([metric, value]) => point(tenant, device.id, metric, value)))
      await analytics.insertPoints(points)
      // Late, repeated, and replaced under the same time.
      await analytics.insertPoints([...points.slice(0, 50), ...points.map(late => ({ ...late, value: 'late', ts: pointTime - 5, stamp: pointTime + 5 })), ...points.map(old => ({ ...old, value: 'replaced', stamp: pointTime - 5 }))])
    }
    // Rows that were read before and come after.
    await search.putTwins(devices.map((device, i) => rowOf('prop', { ...others[(i + 3) % others.length], id: device.id }, 1)))
    let found = 0
    for (const filter of fc.sample(anyFilter, { seed, numRuns: 80 })) {
      const text = `seed ${seed}: ${printFilter(filter)}`
      const choice = queryOf('prop', { filter })
      if (metricsOf(filter).size > 5) {
        await t.rejects(search.findIds(choice, '', 1000), { code: 'invalid_field', field: 'filter' }, text)
        continue
      }
      const wanted = devices.filter(device => evaluateFilter(filter, device, nowUs)).map(({ id }) => id).sort()
      const ids = await search.findIds(choice, '', 1000)
      found += wanted.length
      if (JSON.stringify(ids) !== JSON.stringify(wanted)) {
        t.strictSame(ids, wanted, text)
        const wrong = [...ids.filter(id => !wanted.includes(id)), ...wanted.filter(id => !ids.includes(id))][0]
        t.comment(JSON.stringify(devices.find(({ id }) => id === wrong)))
        return
      }
    }
    t.ok(found > 1000, `${found} hits`)
  })

  void t.test('search: hostile texts are values, whatever they hold', async t => {
    const { search, analytics } = engine()
    const texts = ["'", "' OR 1=1 --", '\\', "\\'", '`', '"', '{b0:String}', '{tenant:String}', '\u0000', '\n', '\t', '%', '_', '*/', '/*', ';', "'); DROP TABLE twins; --", '\\N', 'NULL', '\u{1F4A5}', '$1', '?', '@', '${x}', 'x\r\ny', '\u2028', 'ß'.repeat(100)]
    await search.putTwins(texts.map((value, i) => rowOf('hostile', { id: `d${i}`, name: value, type: value, gateway: value, tags: { [value]: value }, reported: { [value]: value, deep: { [value]: { [value]: 1 } } } }, 1)))
    await analytics.insertPoints(texts.map((value, i) => point('hostile', `d${i}`, value, value)))
    for (const [i, value] of texts.entries()) {
      const json = JSON.stringify(value)
      const terms = [`name eq ${json}`, `type eq ${json}`, `gateway in (${json})`, `tags[${json}] eq ${json}`, `reported[${json}] exists`, `reported.deep[${json}][${json}] eq 1`, `latest[${json}] eq ${json}`, ...value.includes('*') ? [] : [`name like ${JSON.stringify(`${value}*`)} and name le ${json}`]]
      for (const text of [terms.join(' and '), `${terms.join(' or ')} and not id exists`]) t.strictSame(await idsOf('hostile', text), [`d${i}`], encodeURIComponent(text))
    }
    t.equal((await idsOf('hostile', 'id exists')).length, texts.length, 'nothing was dropped')
  })

  void t.test('search: a row that was read earlier never replaces one that was read later; what is deleted is gone, and may come back', async t => {
    const { search } = engine()
    const put = async (readAt: number, name: string | null): Promise<void> => { await search.putTwins([name === null ? { tenant: 'order', id: 'd', readAt, record: null } : rowOf('order', { id: 'd', name, reported: { [name]: 1 } }, readAt)]) }
    await put(5, 'five')
    await put(3, 'three')
    t.strictSame([await idsOf('order', 'name eq "five"'), await idsOf('order', 'reported.three exists')], [['d'], []])
    await put(7, null)
    await put(6, 'six')
    t.strictSame(await idsOf('order', 'id exists'), [])
    await put(8, 'eight')
    await put(7, null)
    t.strictSame(await idsOf('order', 'name eq "eight" and not reported.six exists'), ['d'])
    await search.putTwins([rowOf('order', { id: 'e' }, 20)])
    await search.dropTwinsBefore('order', 20)
    t.strictSame(await idsOf('order', 'id exists'), ['e'], 'what a look at everything did not find')
    await search.putActivity([{ tenant: 'order', device: 'e', at: 500 }, { tenant: 'order', device: 'e', at: 400 }, { tenant: 'order2', device: 'e', at: 900 }])
    const { twins: [twin] } = await search.findTwins(queryOf('order'))
    t.equal(twin.lastActivity, 500, 'the latest')
  })

  void t.test('search: latest values never go back, and go with their device, an erasure and retention', async t => {
    const { search, analytics } = engine()
    const tenant = 'newest'
    await search.putTwins(['d', 'e'].map(id => rowOf(tenant, { id }, 1)))
    const at = (ts: number, value: number, more: object = {}) => point(tenant, 'd', 'm', value, { ts: pointTime + ts, stamp: pointTime + ts, ...more })
    const latest = async (oldestTs = 0): Promise<unknown> => (await search.findTwins(queryOf(tenant, { device: 'd', latest: ['m'], oldestTs }))).twins[0].latest.m?.value
    await analytics.insertPoints([at(10, 1), at(20, 2)])
    await analytics.insertPoints([at(15, 3, { stamp: pointTime + 100 })])
    t.equal(await latest(), 2, 'a late point does not replace a newer one')
    await analytics.insertPoints([at(20, 4, { stamp: pointTime + 100 }), at(20, 2)])
    t.equal(await latest(), 4, 'a corrected one does')
    t.equal(await latest(pointTime + 21), undefined, 'what has expired is not found')
    await analytics.erase([{ tenant, device: 'd', metric: 'm', fromTs: pointTime + 18, toTs: pointTime + 30, stamp: pointTime + 1000 }])
    t.equal(await latest(), 3, 'the newest that is left')
    await analytics.insertPoints([at(5, 5, { stamp: pointTime + 2000 })])
    t.equal(await latest(), 3)
    await analytics.erase([{ tenant, device: 'd', stamp: pointTime + 1500 }])
    t.equal(await latest(), 5)
    await search.putTwins([rowOf(tenant, { id: 'd' }, 2, { erasedBefore: pointTime + 3000 })])
    t.equal(await latest(), undefined, 'a device that was made again has nothing of the one before, carried out yet or not')
    t.strictSame(await idsOf(tenant, 'latest.m exists'), [])
    await analytics.insertPoints([at(6, 6, { stamp: pointTime + 4000 }), at(30, 7, { stamp: pointTime + 4000 })], 1e6)
    t.equal(await latest(), 7)
    await analytics.insertPoints([at(6, 6, { stamp: pointTime + 4000 })])
    await analytics.dropWrittenBefore(tenant, 2e6)
    t.equal(await latest(), 6, 'a rebuild leaves what came again')
  })

  void t.test('search: pages hold every device once in the order asked for, missing ones last, while others change', async t => {
    const { search, analytics } = engine()
    const tenant = 'pages'
    const values = [3, 'x', true, undefined, -2, 1e300, 'a', false, undefined, 0, 3, 'ümlaut', { deep: 1 }]
    const devices = Array.from({ length: 60 }, (_, i): FilterSubject => ({ id: `d-${String(i).padStart(2, '0')}`, type: ['p', 'q', ''][i % 3], createdAt: 10 + i % 4, reported: values[i % 13] === undefined ? {} : { v: values[i % 13] as number } }))
    await search.putTwins(devices.map(device => rowOf(tenant, device)))
    await analytics.insertPoints(devices.flatMap((device, i) => i % 5 === 0 ? [] : [point(tenant, device.id, 'm', [NaN, 1, -1, Infinity, 2, -Infinity, 'z'][i % 7])]))
    const rank = (value: unknown): number => typeof value === 'number' && !Number.isNaN(value) ? 1 : typeof value === 'string' ? 2 : typeof value === 'boolean' ? 3 : 0
    const latestOf = new Map(devices.map((device, i) => [device.id, i % 5 === 0 ? undefined : [NaN, 1, -1, Infinity, 2, -Infinity, 'z'][i % 7]]))
    const value = (device: FilterSubject, name: string): unknown => name === 'type' ? device.type : name === 'createdAt' ? device.createdAt : name === 'latest.m' ? latestOf.get(device.id) : device.reported?.v
    for (const sort of [[], ['reported.v'], ['-reported.v'], ['type', '-reported.v'], ['-type', 'createdAt'], ['latest.m'], ['-latest.m', '-createdAt']]) {
      const order = sort.map((name): SearchSort => ({ field: parseFilterField(name.replace('-', ''), 'sort'), order: name.startsWith('-') ? 'desc' : 'asc' }))
      const wanted = [...devices].sort((a, b) => {
        for (const name of sort) {
          const way = name.startsWith('-') ? -1 : 1
          const [x, y] = [value(a, name.replace('-', '')), value(b, name.replace('-', ''))]
          if ((rank(x) === 0) !== (rank(y) === 0)) return rank(x) === 0 ? 1 : -1
          if (rank(x) !== rank(y)) return way * (rank(x) - rank(y))
          if (rank(x) === 0 || x === y) continue
          return way * (typeof x === 'string' ? Buffer.compare(Buffer.from(x), Buffer.from(y as string)) : (x as number) < (y as number) ? -1 : 1)
        }
        return a.id < b.id ? -1 : 1
      }).map(({ id }) => id)
      const got: string[] = []
      let after: SearchPosition | null = null
      do {
        const page: Awaited<ReturnType<typeof search.findTwins>> = await search.findTwins(queryOf(tenant, { sort: order, after, limit: 17 }))
        got.push(...page.twins.map(({ id }) => id))
        // Through JSON, as a cursor goes; and a device that comes and goes meanwhile moves nothing.
        after = page.next === null ? null : JSON.parse(JSON.stringify(page.next)) as SearchPosition
        const come = got.length % 2 === 0
        await search.putTwins([come ? rowOf(tenant, { id: 'd-00a', reported: { v: 1 } }, 1000 + got.length) : { tenant, id: 'd-00a', readAt: 1000 + got.length, record: null }])
      } while (after !== null)
      t.strictSame(got.filter(id => id !== 'd-00a'), wanted, sort.join())
      await search.putTwins([{ tenant, id: 'd-00a', readAt: 2000 + sort.length, record: null }])
    }
    t.equal(await search.countTwins(queryOf(tenant, { filter: parseFilter('reported.v exists') })), devices.filter(({ reported }) => reported?.v !== undefined).length)
  })

  void t.test('search: no filter, device or cursor reaches another tenant (INVARIANTS 7)', async t => {
    const { search, analytics } = engine()
    await search.putTwins([rowOf('mine', { id: 'd', tags: { site: 'a' } }), rowOf('minee', { id: 'd', tags: { site: 'b' } }), rowOf('minee', { id: 'secret', tags: { site: 'b' } })])
    await analytics.insertPoints([point('minee', 'd', 'm', 1)])
    await search.putActivity([{ tenant: 'minee', device: 'd', at: 50 }])
    for (const text of ['tags.site eq "b"', 'id eq "secret"', 'latest.m exists', 'lastActivity exists', 'not id eq "d"', 'not latest.m eq null']) t.strictSame(await idsOf('mine', text), [], text)
    t.strictSame(await search.findIds(queryOf('mine', { device: 'secret' }), '', 10), [])
    t.strictSame((await search.findTwins(queryOf('mine', { after: [''] }))).twins.map(({ id }) => id), ['d'])
    t.equal(await search.countTwins(queryOf('mine')), 1)
  })
}
