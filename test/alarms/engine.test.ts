import t from 'tap'
import fc from 'fast-check'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog } from '../../src/core/log.js'
import { sideOf, type Side } from '../../src/core/threshold.js'
import { AlarmService } from '../../src/alarms/alarm-service.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import { eventsOf, FaultyStore, ManualClock, newDevices, newEngine, sliceEdges, type Fault } from './engine-world.js'
import { naive } from './naive-alarms.js'

const directory = mkdtempSync(join(tmpdir(), 'twinfold-alarms-'))
const clock = new ManualClock()
const store: Store = await openStore({ kind: 'embedded', directory }, { clock, log: silentLog, writer: true })
t.teardown(async () => {
  await store.close()
  rmSync(directory, { recursive: true, force: true })
})

const second = 1e6
let tenants = 0
async function tenantWith (rule: Parameters<AlarmService['putRule']>[2], devices: readonly string[], more = {}): Promise<{ tenant: string, rule: AlarmRule }> {
  const tenant = `t${++tenants}`
  await newDevices(store, tenant, devices, more)
  const { rules } = newEngine(store, clock)
  return { tenant, rule: (await rules.put(tenant, 'hot', rule, null)).rule }
}

t.test('alarms are those of the points in order, each told once, whatever is repeated, comes late, fails or dies', async t => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.comment(`seed ${seed}`)
  const fault = fc.constantFrom<Fault>('none', 'none', 'none', 'before', 'after')
  await fc.assert(fc.asyncProperty(
    fc.array(fc.record({
      points: fc.array(fc.record({ device: fc.integer({ min: 0, max: 1 }), gap: fc.integer({ min: 1, max: 5 }), value: fc.constantFrom(0, 50, 100) }), { maxLength: 5 }),
      faults: fc.array(fault, { maxLength: 4 }),
      end: fc.constantFrom('go on', 'go on', 'crash', 'crash and repeat', 'late', 'restart')
    }), { minLength: 1, maxLength: 8 }),
    fc.integer({ min: 0, max: 8 }),
    async (script, durationSeconds) => {
      const devices = ['a', 'b']
      const { tenant, rule } = await tenantWith({ source: { metric: 't' }, condition: { op: 'gt', value: 80, clear: { value: 20 } }, durationSeconds }, devices)
      const faulty = new FaultyStore(store)
      let { engine } = newEngine(faulty.store, clock)
      await engine.open()
      const all = new Map(devices.map(id => [id, [] as { ts: number, value: number }[]]))
      const take = async (points: ReadonlyMap<string, readonly { ts: number, value: number }[]>, faults: readonly Fault[]): Promise<void> => {
        faulty.faults = [...faults]
        for (;;) {
          try {
            await engine.take([sliceEdges(tenant, rule, points)], clock.us)
            return
          } catch { /* The packer packs the slice again. */ }
        }
      }
      // What was evaluated since the start of this engine: lateness is judged by it.
      let known = new Set<string>()
      for (const { points, faults, end } of script) {
        const slice = new Map<string, { ts: number, value: number }[]>()
        for (const { device, gap, value } of points) {
          clock.us += gap * second
          const point = { ts: clock.us, value }
          all.get(devices[device])?.push(point)
          slice.set(devices[device], [...slice.get(devices[device]) ?? [], point])
        }
        await take(slice, faults)
        faulty.faults = []
        for (const id of slice.keys()) known.add(id)
        if (end === 'late') await take(new Map([...known].map(id => [id, [{ ts: (all.get(id)?.at(-1)?.ts ?? 0) - 1, value: 100 }]])), [])
        if (end === 'restart') await engine.close()
        if (end !== 'go on' && end !== 'late') {
          ({ engine } = newEngine(faulty.store, clock))
          await engine.open()
          known = new Set()
        }
        if (end === 'crash and repeat') await take(slice, [])
      }
      await engine.close()
      // Whoever comes next tells what is not told.
      const last = newEngine(store, clock)
      await last.engine.open()
      await last.engine.close()
      for (const device of devices) {
        const expected = naive((all.get(device) ?? []).map(({ ts, value }) => ({ ts, side: sideOf(rule.condition as NonNullable<AlarmRule['condition']>, value) as Side })), durationSeconds * second)
        const { once } = await eventsOf(store, tenant, device)
        const found = once.map(({ type, data }) => {
          const { raisedAt, clearedAt } = JSON.parse(data) as { raisedAt: string, clearedAt: string }
          return type === 'alarm.raised' ? `raise ${raisedAt}` : `clear ${clearedAt}`
        })
        const wanted = expected.map(({ kind, at }) => `${kind} ${new Date(at / 1000).toISOString()}`)
        if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(`${device}: told ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`)
      }
    }
  ), { numRuns: 60, seed })
})

t.test('a value that stays beyond without new points raises when the time is over, once, and after a restart too', async t => {
  const { tenant, rule } = await tenantWith({ source: { metric: 't' }, condition: { op: 'gt', value: 80 }, durationSeconds: 60 }, ['a'])
  let { engine } = newEngine(store, clock)
  await engine.open()
  const since = clock.us
  await engine.take([sliceEdges(tenant, rule, new Map([['a', [{ ts: since, value: 90 }]]]))], clock.us)
  clock.us += 61 * second
  await engine.tick()
  t.equal((await eventsOf(store, tenant, 'a')).once.length, 0, 'not while what was just accepted may still be on its way')
  ;({ engine } = newEngine(store, clock))
  await engine.open()
  clock.us += 10 * second
  await engine.tick()
  await engine.tick()
  const { once, all } = await eventsOf(store, tenant, 'a')
  t.equal(once.length, 1)
  t.equal(all.length, 1)
  t.equal((JSON.parse(once[0].data) as { raisedAt: string }).raisedAt, new Date((since + 60 * second) / 1000).toISOString())
  await engine.close()
})

t.test('silence is an alarm after a whole period since the device was heard or the server started; a voice ends it', async t => {
  const { tenant, rule } = await tenantWith({ source: { metric: '*' }, noData: { seconds: 60 } }, ['a', 'b'])
  const heard = (device: string): ReturnType<typeof sliceEdges>[] => [sliceEdges(tenant, rule, new Map([[device, []]]))]
  let { engine } = newEngine(store, clock)
  await engine.open()
  await engine.take(heard('a'), clock.us)
  clock.us += 40 * second
  await engine.take(heard('b'), clock.us)
  await engine.tick()
  await engine.close()
  const heardA = clock.us - 40 * second
  clock.us += 3600 * second
  ;({ engine } = newEngine(store, clock))
  await engine.open()
  clock.us += 30 * second
  await engine.tick()
  t.equal((await eventsOf(store, tenant, 'a')).once.length, 0, 'the server was away, not the device')
  await engine.take(heard('b'), clock.us)
  clock.us += 33 * second
  await engine.tick()
  const raised = (await eventsOf(store, tenant, 'a')).once
  t.same(raised.map(({ type }) => type), ['alarm.raised'])
  t.equal((JSON.parse(raised[0].data) as { raisedAt: string }).raisedAt, new Date((heardA + 60 * second) / 1000).toISOString())
  t.equal((await eventsOf(store, tenant, 'b')).once.length, 0, 'b was heard meanwhile')
  ;({ engine } = newEngine(store, clock))
  await engine.open()
  clock.us += 70 * second
  await engine.tick()
  t.equal((await eventsOf(store, tenant, 'a')).once.length, 1, 'not raised again after a crash')
  await engine.take(heard('a'), clock.us)
  t.same((await eventsOf(store, tenant, 'a')).once.map(({ type }) => type), ['alarm.raised', 'alarm.cleared'])
  clock.us += 63 * second
  await engine.tick()
  t.equal((await eventsOf(store, tenant, 'a')).once.length, 3, 'silent again: another alarm')
  await engine.close()
})

t.test('acknowledged once, cleared by hand, listed; a changed or deleted rule clears its alarms', async t => {
  const { tenant, rule } = await tenantWith({ source: { metric: 't' }, severity: 'critical', condition: { op: 'gt', value: 80 } }, ['a', 'b', 'c'])
  const { engine, rules } = newEngine(store, clock)
  await engine.open()
  const alarms = new AlarmService({ documents: store, engine, rules, clock, log: silentLog })
  const hot = async (of: AlarmRule, devices: readonly string[]): Promise<void> => {
    clock.us += second
    await engine.take([sliceEdges(tenant, of, new Map(devices.map(id => [id, [{ ts: clock.us, value: 99 }]])))], clock.us)
  }
  await hot(rule, ['a', 'b', 'c'])
  t.match(alarms.counts(tenant), { active: 3, notRaised: 0 })
  t.match(await alarms.acknowledge(tenant, 'hot~a', 'me', 'seen'), { acknowledged: true, ackedBy: 'me', ackComment: 'seen' })
  t.match(await alarms.acknowledge(tenant, 'hot~a', 'you', 'too'), { ackedBy: 'me' }, 'the first one stands')
  t.match(await alarms.clear(tenant, 'hot~b'), { state: 'cleared', clearReason: 'manual' })
  await hot(rule, ['b'])
  t.match(await alarms.get(tenant, 'hot~b'), { state: 'cleared' }, 'the same streak')
  t.equal(await alarms.acknowledge(tenant, 'hot~nobody', 'me', ''), null)
  await t.rejects(alarms.clear(tenant, 'nonsense'), { code: 'not_found' })
  t.same((await alarms.list(tenant, { state: 'active' }, null, 10)).items.map(({ device }) => device), ['a', 'c'])
  t.same((await alarms.list(tenant, { acked: true }, null, 10)).items.map(({ device }) => device), ['a'])
  const first = await alarms.list(tenant, { severity: 'critical' }, null, 2)
  t.same(first.items.map(({ device }) => device), ['a', 'b'])
  const rest = await alarms.list(tenant, { severity: 'critical' }, first.next, 2)
  t.same([rest.items.map(({ device }) => device), rest.next], [['c'], null])
  t.equal((await alarms.ofDevice(tenant, 'c')).length, 1)

  clock.us += second
  const { rule: changed } = await alarms.putRule(tenant, 'hot', { source: { metric: 't' }, condition: { op: 'gt', value: 90 } }, String(rule.stamp))
  t.match(await alarms.get(tenant, 'hot~a'), { state: 'cleared', clearReason: 'rule_changed' })
  await hot(rule, ['c'])
  t.match(await alarms.get(tenant, 'hot~c'), { state: 'cleared' }, 'edges of the version before raise nothing')
  await hot(changed, ['c'])
  t.match(await alarms.get(tenant, 'hot~c'), { state: 'active', count: 2 })
  await t.rejects(alarms.deleteRule(tenant, 'hot', String(rule.stamp)), { code: 'precondition_failed' })
  t.ok(await alarms.deleteRule(tenant, 'hot', String(changed.stamp)))
  await hot(changed, ['a', 'c'])
  t.same((await alarms.list(tenant, { state: 'active' }, null, 10)).items, [])
  t.same((await eventsOf(store, tenant, 'c')).once.map(({ type }) => type), ['alarm.raised', 'alarm.cleared', 'alarm.raised', 'alarm.cleared'])
  t.match(alarms.counts(tenant), { active: 0 })
  await engine.close()
})

t.test('a tenant with as many active alarms as are kept gets no more, and is told how many were not raised', async t => {
  const devices = ['a', 'b', 'c']
  const { tenant, rule } = await tenantWith({ source: { metric: 't' }, condition: { op: 'gt', value: 80 } }, devices)
  const { engine } = newEngine(store, clock, { activeMax: 2 })
  await engine.open()
  for (const device of devices) await engine.take([sliceEdges(tenant, rule, new Map([[device, [{ ts: clock.us, value: 99 }]]]))], clock.us)
  t.equal(engine.writer.activeOf(tenant), 2)
  t.equal(engine.writer.notRaisedOf(tenant), 1)
  await engine.close()
})
