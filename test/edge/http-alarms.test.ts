import t from 'tap'
import { AlarmService } from '../../src/alarms/alarm-service.js'
import { silentLog } from '../../src/core/log.js'
import type { Store } from '../../src/store/store.js'
import { ManualClock, newEngine, sliceEdges } from '../alarms/engine-world.js'
import { documentStore } from './document-world.js'
import { bench, type Bench } from './http-support.js'

async function open (t: Parameters<typeof bench>[0]): Promise<{ b: Bench, hot: (device: string, value: number) => Promise<void> }> {
  const documents = await documentStore(t)
  const clock = new ManualClock()
  // Devices are the bench's, documents and events the real store's.
  let devices: Bench['store'] | null = null
  const store = new Proxy(documents, { get: (target, name) => name === 'getDevice' ? async (tenant: string, id: string) => await devices?.getDevice(tenant, id) ?? null : bound(target, name) })
  const { engine, rules } = newEngine(store, clock)
  await engine.open()
  t.teardown(async () => { await engine.close() })
  const b = await bench(t, { alarms: new AlarmService({ documents: store, engine, rules, clock, log: silentLog }) })
  devices = b.store
  return {
    b,
    hot: async (device, value) => {
      clock.us += 1e6
      const rule = await rules.get('acme', 'hot')
      if (rule !== null) await engine.take([sliceEdges('acme', rule, new Map([[device, [{ ts: clock.us, value }]]]))], clock.us)
    }
  }
}

function bound (target: Store, name: string | symbol): unknown {
  const member: unknown = Reflect.get(target, name)
  return typeof member === 'function' ? member.bind(target) as unknown : member
}

const rule = { name: 'Too hot', severity: 'critical', source: { metric: 't' }, condition: { op: 'gt', value: 80, clear: { value: 75 } }, message: 'look' }

void t.test('rules are written, read and deleted with entity tags, by operators alone', async t => {
  const { b } = await open(t)
  const made = await b.call('PUT', 'alarm-rules/hot', { key: b.keys.operator, body: rule })
  t.match([made.status, made.json], [201, { id: 'hot', severity: 'critical', condition: { op: 'gt', value: 80, clear: { op: 'le', value: 75 } }, durationSeconds: 0 }])
  t.equal((await b.call('PUT', 'alarm-rules/hot', { key: b.keys.operator, body: rule, headers: { 'if-none-match': '*' } })).status, 412)
  const changed = await b.call('PUT', 'alarm-rules/hot', { key: b.keys.operator, body: rule, headers: { 'if-match': String(made.headers.etag) } })
  t.equal(changed.status, 200)
  t.equal((await b.call('DELETE', 'alarm-rules/hot', { key: b.keys.operator, headers: { 'if-match': String(made.headers.etag) } })).status, 412)
  t.match((await b.call('GET', 'alarm-rules', { key: b.keys.viewer })).json, { rules: [{ id: 'hot' }], next: null })
  t.equal((await b.call('GET', 'alarm-rules/hot', { key: b.keys.viewer })).headers.etag, changed.headers.etag)
  t.equal((await b.call('GET', 'alarm-rules/hot', { key: b.keys.foreignOperator })).status, 404)
  t.equal((await b.call('PUT', 'alarm-rules/hot', { key: b.keys.viewer, body: rule })).status, 403)
  t.equal((await b.call('DELETE', 'alarm-rules/hot', { key: b.keys.operator })).status, 204)
  t.equal((await b.call('DELETE', 'alarm-rules/hot', { key: b.keys.operator })).status, 404)
})

void t.test('a rule that cannot be meant is refused with its member', async t => {
  const { b } = await open(t)
  const rows: readonly [object, string][] = [
    [{}, 'source'], [{ source: {} }, 'source'], [{ source: { metric: 't', presence: true }, condition: rule.condition }, 'source'], [{ source: { metric: 't' } }, 'condition'],
    [{ source: { metric: '*' }, condition: rule.condition }, 'source.metric'], [{ source: { presence: true }, noData: { seconds: 60 } }, 'noData'],
    [{ source: { metric: 't' }, noData: { seconds: 1 } }, 'noData.seconds'], [{ source: { metric: 't' }, noData: { seconds: 60 }, condition: rule.condition }, 'condition'],
    [{ source: { metric: 't' }, condition: { op: 'gt', value: 'x' } }, 'condition.value'], [{ source: { metric: 't' }, condition: { op: 'gt', value: 80, clear: { value: 90 } } }, 'condition.clear'],
    [{ source: { presence: true }, condition: { op: 'eq', value: 'away' } }, 'condition.value'], [{ ...rule, scope: { model: 'a', device: 'b' } }, 'scope'], [{ ...rule, scope: { tag: 'site' } }, 'scope.tag'],
    [{ ...rule, durationSeconds: -1 }, 'durationSeconds'], [{ ...rule, unknown: 1 }, 'unknown']
  ]
  for (const [body, field] of rows) {
    const { status, json } = await b.call('PUT', 'alarm-rules/hot', { key: b.keys.operator, body })
    t.match([status, json.code, json.field], [400, 'invalid_field', field], JSON.stringify(body))
  }
  t.equal((await b.call('PUT', 'alarm-rules/a~b', { key: b.keys.operator, body: rule })).status, 400)
})

void t.test('a tenant has 200 rules at most', async t => {
  const { b } = await open(t)
  for (let i = 0; i < 200; i++) await b.call('PUT', `alarm-rules/r${i}`, { key: b.keys.operator, body: rule })
  t.match((await b.call('PUT', 'alarm-rules/more', { key: b.keys.operator, body: rule })).json, { code: 'limit_reached' })
  t.equal((await b.call('PUT', 'alarm-rules/r7', { key: b.keys.operator, body: rule })).status, 200)
})

void t.test('alarms are listed with filters, acknowledged and cleared; devices see their own', async t => {
  const { b, hot } = await open(t)
  await b.call('PUT', 'alarm-rules/hot', { key: b.keys.operator, body: rule })
  for (const device of ['pump-1', 'pump-2']) await hot(device, 90)
  await hot('pump-2', 70)
  t.match((await b.call('GET', 'alarms', { key: b.keys.viewer })).json, { alarms: [{ id: 'hot~pump-1', state: 'active', value: 90, message: 'look' }, { id: 'hot~pump-2', state: 'cleared', clearReason: 'condition' }], next: null, active: 1, notRaised: 0 })
  for (const [query, ids] of [['state=active', ['pump-1']], ['severity=minor', []], ['device=pump-2', ['pump-2']], ['rule=hot&acked=false', ['pump-1', 'pump-2']], ['rule=hot&device=pump-1', ['pump-1']], ['acked=true', []]] as const) {
    t.same((await b.call('GET', `alarms?${query}`, { key: b.keys.viewer })).json.alarms.map((alarm: { device: string }) => alarm.device), ids, query)
  }
  const page = (await b.call('GET', 'alarms?limit=1', { key: b.keys.viewer })).json
  t.same((await b.call('GET', `alarms?limit=1&cursor=${page.next}`, { key: b.keys.viewer })).json.alarms.map((alarm: { device: string }) => alarm.device), ['pump-2'])
  t.equal((await b.call('GET', `alarms?limit=1&state=active&cursor=${page.next}`, { key: b.keys.viewer })).status, 400, 'a cursor of another query')
  t.match((await b.call('POST', 'alarms/hot~pump-1/ack', { key: b.keys.application, body: { comment: 'on my way' } })).json, { acknowledged: true, ackComment: 'on my way' })
  t.match((await b.call('POST', 'alarms/hot~pump-1/clear', { key: b.keys.operator })).json, { state: 'cleared', clearReason: 'manual' })
  t.equal((await b.call('POST', 'alarms/hot~pump-1/ack', { key: b.keys.viewer, body: {} })).status, 403)
  for (const id of ['hot~nobody', 'nonsense']) t.equal((await b.call('POST', `alarms/${id}/clear`, { key: b.keys.operator })).status, 404, id)
  t.equal((await b.call('GET', 'alarms/hot~pump-1', { key: b.keys.foreignOperator })).status, 404)
  t.match((await b.call('GET', 'devices/pump-1/alarms', { key: b.keys.device })).json, { alarms: [{ rule: 'hot' }] })
  t.equal((await b.call('GET', 'devices/pump-2/alarms', { key: b.keys.device })).status, 404)
})
