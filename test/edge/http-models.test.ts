import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { ModelRules } from '../../src/models/model-rules.js'
import { ModelService } from '../../src/models/model-service.js'
import { ViolationLog } from '../../src/models/violation-log.js'
import type { JsonObject, TwinView } from '../../src/twin/twin-model.js'
import { documentStore } from './document-world.js'
import { bench, type Bench } from './http-support.js'

async function open (t: Parameters<typeof bench>[0]): Promise<{ b: Bench, rules: ModelRules, models: ModelService }> {
  const documents = await documentStore(t)
  const violations = new ViolationLog({ clock: systemClock })
  const models: ModelService = new ModelService({ documents, violations, clock: systemClock, changed: (tenant, type) => { rules.forgetModel(tenant, type) } })
  const twin = { desired: {}, reported: { mode: 'warp' } } as unknown as TwinView
  const b = await bench(t, { models: { service: models, twins: { get: async () => twin } } })
  const rules: ModelRules = new ModelRules({ registry: b.store, models, violations, clock: systemClock })
  b.store.device('acme', 'pump-1', { type: 'pump' })
  return { b, rules, models }
}

const pump = { description: 'A pump', conflicts: 'device', reported: { type: 'object', properties: { mode: { enum: ['on', 'off'] } } }, metrics: { flow: { type: 'number', unit: 'l/s', min: 0 } } }

void t.test('models are written with versions and entity tags, and only by operators', async t => {
  const { b } = await open(t)
  const first = await b.call('PUT', 'models/pump', { key: b.keys.operator, body: pump, headers: { 'if-none-match': '*' } })
  t.match([first.status, first.json], [201, { type: 'pump', version: 1, conflicts: 'device', onTwinViolation: 'refuse' }])
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.operator, body: pump, headers: { 'if-none-match': '*' } })).status, 412)
  const second = await b.call('PUT', 'models/pump', { key: b.keys.operator, body: { ...pump, description: 'Two' }, headers: { 'if-match': String(first.headers.etag) } })
  t.match([second.status, second.json], [200, { version: 2 }])
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.operator, body: pump, headers: { 'if-match': String(first.headers.etag) } })).status, 412, 'an old tag')
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.operator, body: pump, headers: { 'if-match': 'W/"x"' } })).status, 400)
  t.match((await b.call('GET', 'models/pump', { key: b.keys.viewer })).json, { version: 2, description: 'Two', reported: pump.reported })
  t.match((await b.call('GET', 'models', { key: b.keys.viewer })).json, { models: [{ type: 'pump', version: 2, metrics: pump.metrics }], next: null })
  t.same((await b.call('GET', 'models/pump/versions', { key: b.keys.viewer })).json.versions.map((entry: { version: number }) => entry.version), [2, 1])
  t.match((await b.call('GET', 'models/pump/versions/1', { key: b.keys.viewer })).json, { version: 1, description: 'A pump' })
  t.equal((await b.call('GET', 'models/pump/versions/3', { key: b.keys.viewer })).status, 404)
  t.equal((await b.call('GET', 'models/pump', { key: b.keys.foreignOperator })).status, 404, 'of another tenant')
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.application, body: pump })).status, 403)
  t.equal((await b.call('DELETE', 'models/pump', { key: b.keys.operator, headers: { 'if-match': String(first.headers.etag) } })).status, 412)
  t.equal((await b.call('DELETE', 'models/pump', { key: b.keys.operator })).status, 204)
  t.equal((await b.call('DELETE', 'models/pump', { key: b.keys.operator })).status, 404)
  t.equal((await b.call('GET', 'models/pump', { key: b.keys.operator })).status, 404)
})

void t.test('of two writers with the same tag one succeeds; 50 versions are kept', async t => {
  const { b, models } = await open(t)
  let { tag } = await models.put('acme', 'pump', {}, null, 'me')
  for (let round = 0; round < 10; round++) {
    const outcomes = await Promise.all([1, 2, 3].map(async n => await b.call('PUT', 'models/pump', { key: b.keys.operator, body: { description: String(n) }, headers: { 'if-match': `"${tag}"` } })))
    t.same(outcomes.map(({ status }) => status).sort(), [200, 412, 412])
    tag = String(outcomes.find(({ status }) => status === 200)?.headers.etag).slice(1, -1)
  }
  for (let n = 0; n < 45; n++) await models.put('acme', 'pump', { description: String(n) }, null, 'me')
  const versions = await models.versions('acme', 'pump') ?? []
  t.same([versions.length, versions[0].version, versions.at(-1)?.version], [50, 56, 7])
  for (const { version } of versions) t.equal((await models.version('acme', 'pump', version))?.version, version)
})

void t.test('a hostile or mistaken schema is refused with the place that is at fault', async t => {
  const { b } = await open(t)
  const doubling: Record<string, unknown> = { d0: { type: 'string' } }
  for (let i = 1; i <= 30; i++) doubling[`d${i}`] = { allOf: [{ $ref: `#/$defs/d${i - 1}` }, { $ref: `#/$defs/d${i - 1}` }] }
  let deep: JsonObject = { type: 'string' }
  for (let i = 0; i < 40; i++) deep = { properties: { a: deep } }
  const rows: readonly [string, unknown, RegExp][] = [
    ['doubling references', { $defs: doubling, $ref: '#/$defs/d30' }, /too large/],
    ['recursion', { properties: { a: { $ref: '#' } } }, /refers to itself/],
    ['too deep', deep, /deeper/],
    ['remote', { $ref: 'https://example.com/schema.json' }, /same schema/],
    ['dangling', { $ref: '#/$defs/nothing' }, /not there/],
    ['unknown keyword', { propertys: {} }, /\/propertys is not a keyword/],
    ['dynamic', { $dynamicRef: '#a' }, /not a keyword/],
    ['look-ahead', { properties: { a: { pattern: '(?=a)b' } } }, /\/properties\/a\/pattern/],
    ['too large', { description: 'x'.repeat(70_000) }, /larger than/],
    ['unique', { properties: { a: { uniqueItems: true } } }, /maxItems/],
    ['draft 4', { $schema: 'http://json-schema.org/draft-04/schema#' }, /2020-12/],
    ['no schema', { type: 'nonsense' }, /no JSON Schema/]
  ]
  for (const [name, reported, detail] of rows) {
    const { status, json } = await b.call('PUT', 'models/pump', { key: b.keys.operator, body: { reported } })
    t.match([status, json.code, json.detail], [400, 'invalid_field', detail], name)
  }
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.operator, body: { metrics: { a: { type: 'string', min: 1 } } } })).status, 400)
  t.equal((await b.call('PUT', 'models/a%20b', { key: b.keys.operator, body: {} })).status, 400)
  t.equal((await b.call('PUT', 'models/pump', { key: b.keys.operator, body: { reported: { $schema: 'http://json-schema.org/draft-07/schema#', properties: { a: { pattern: '^(a+)+$' } } } } })).status, 201)
  const startMs = performance.now()
  t.match((await b.call('POST', 'models/pump/validate', { key: b.keys.viewer, body: { reported: { a: `${'a'.repeat(4000)}!` } } })).json, { valid: false, violations: [{ part: 'reported', detail: /reported\/a must match/ }] })
  t.ok(performance.now() - startMs < 1000)
})

void t.test('twins are held against the model: refused or flagged; validate tells what does not fit any more', async t => {
  const { b, rules, models } = await open(t)
  t.match(await rules.rulesOf('acme', 'pump-2'), { conflicts: 'cloud' })
  await models.put('acme', 'pump', pump as never, null, 'me')
  const refusing = await rules.rulesOf('acme', 'pump-1')
  t.equal(refusing.conflicts, 'device')
  t.match(refusing.check('reported', { mode: 'warp' }), /reported\/mode must be equal to one of the allowed values: \["on","off"\]/)
  t.equal(refusing.check('reported', { mode: 'on' }), null)
  t.equal(refusing.check('desired', { anything: 1 }), null)
  await models.put('acme', 'pump', { ...pump, onTwinViolation: 'flag' } as never, null, 'me')
  t.equal((await rules.rulesOf('acme', 'pump-1')).check('reported', { mode: 'warp' }), null, 'seen at once through this node')
  t.match((await b.call('GET', 'models/pump/violations', { key: b.keys.viewer })).json, { violations: [{ kind: 'reported', total: 2, examples: [{ device: 'pump-1' }, { device: 'pump-1' }] }] })
  t.match((await b.call('POST', 'models/pump/validate', { key: b.keys.viewer, body: { device: 'pump-1' } })).json, { valid: false, version: 2, violations: [{ part: 'reported' }] })
  t.match((await b.call('POST', 'models/pump/validate', { key: b.keys.viewer, body: { reported: { mode: 'on' }, desired: {} } })).json, { valid: true, violations: [] })
  t.equal((await b.call('POST', 'models/pump/validate', { key: b.keys.viewer, body: { device: 'bolt-1' } })).status, 404)
  t.equal((await b.call('POST', 'models/fan/validate', { key: b.keys.viewer, body: { reported: {} } })).status, 404)
})
