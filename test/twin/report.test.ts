import t from 'tap'
import fc from 'fast-check'
import { eventOf, reduce } from '../../src/twin/reduce.js'
import { encodeState } from '../../src/twin/state-codec.js'
import { planChange, planReport, type PlanContext } from '../../src/twin/plan-change.js'
import { parseReport, type Report } from '../../src/twin/report.js'
import { twinLimits } from '../../src/twin/twin-limits.js'
import type { Json, JsonObject, TwinRules } from '../../src/twin/twin-model.js'
import { absentTwin, type TwinState } from '../../src/twin/twin-state.js'
import { deltaOf } from '../../src/twin/twin-view.js'
import { newSeed } from '../store/store-fixtures.js'
import { anyRules, operator } from './twin-world.js'

const seed = newSeed()
t.comment(`seed ${seed}`)

const id = { tenant: 'acme', device: 'd', name: '' }
const journal = '00000000000000aa'
const device = { kind: 'device', id: 'd', via: 'mqtt' } as const
let position = 0
const base = 1_750_000_000_000_000

function context (state: TwinState, rules: TwinRules = anyRules, at = 0): PlanContext {
  return { id, stamp: Math.max(at, state.updatedAt + 1), rules, limits: twinLimits, tagsBefore: {} }
}

function desire (state: TwinState, desired: JsonObject, at = 0, replace = false): TwinState {
  const plan = planChange(state, { desired, replace }, operator, context(state, anyRules, at))
  if (plan.kind !== 'step') throw new Error(plan.kind)
  return reduce(state, eventOf(state, plan.draft))
}

interface Given { readonly stamp?: number, readonly rules?: TwinRules, readonly byStamp?: boolean }

function reported (state: TwinState, body: JsonObject, { stamp = Math.max(base, state.updatedAt + 1), rules = anyRules, byStamp = true }: Given = {}): TwinState {
  const report = parseReport(Buffer.from(JSON.stringify(body)), stamp, twinLimits) as Report
  const plan = planReport(state, { report, from: { journalId: journal, position: ++position, stamp }, actor: device, byStamp }, context(state, rules, stamp))
  return plan.kind === 'step' ? reduce(state, eventOf(state, plan.draft)) : state
}

/** Empty objects come and go with the order of removals below them; nothing is said in them. */
function pruned (value: Json): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, pruned(inner as Json)] as const).filter(([, inner]) => typeof inner !== 'object' || inner === null || Array.isArray(inner) || Object.keys(inner).length > 0).sort(([a], [b]) => a < b ? -1 : 1))
}

const leaf: fc.Arbitrary<Json> = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.constant(null), fc.constant([1]))
const inner: fc.Arbitrary<Json> = fc.dictionary(fc.constantFrom('x', 'y'), leaf, { minKeys: 1, maxKeys: 2 })
const body = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.oneof(leaf, inner, fc.record({ x: inner }) as fc.Arbitrary<Json>), { minKeys: 1, maxKeys: 3 })

for (const [how, tagged] of [['numbers', (n: number) => ({ $version: n })], ['times', (n: number) => ({ $ts: 1_700_000_000_000 + n })], ['accept stamps', () => ({})]] as const) {
  t.test(`reports of an offline buffer give one state in whatever order they come, by their ${how}`, async () => {
    fc.assert(fc.property(fc.array(body, { minLength: 1, maxLength: 12 }).chain(bodies => fc.tuple(fc.constant(bodies), fc.shuffledSubarray(bodies.map((_, i) => i), { minLength: bodies.length }))), ([bodies, order]) => {
      const say = (state: TwinState, n: number, nth: number): TwinState => reported(state, { ...bodies[n], ...tagged(n) }, { stamp: how === 'accept stamps' ? base + n : base + nth })
      const straight = bodies.reduce((state, _, n) => say(state, n, n), absentTwin(0, 0))
      const mixed = order.reduce((state, n, nth) => say(state, n, nth), absentTwin(0, 0))
      if (JSON.stringify(pruned(straight.reported)) !== JSON.stringify(pruned(mixed.reported))) throw new Error(JSON.stringify([straight.reported, mixed.reported, [...mixed.gone.reported], [...mixed.times.reported]]))
    }), { seed, numRuns: 400 })
  })
}

t.test('a report that comes a second time spends no version', async t => {
  for (const tags of [{ $version: 3 }, { $ts: 1_700_000_000_000 }] as JsonObject[]) {
    const once = reported(absentTwin(0, 0), { a: 1, ...tags })
    t.equal(reported(once, { a: 1, ...tags }).version, 1, JSON.stringify(tags))
  }
  const once = reported(absentTwin(0, 0), { a: 1 })
  t.equal(reported(once, { a: 1 }, { byStamp: false }).version, 1, 'where nothing can come delayed through another node')
  t.equal(reported(once, { a: 1 }, { byStamp: true }).version, 2, 'else its time counts')
})

t.test('what is repeated keeps its ground against what comes delayed', async t => {
  const state = [[10, 1], [30, 1], [20, 2]].reduce((before, [stamp, a]) => reported(before, { a }, { stamp }), absentTwin(0, 0))
  t.same(state.reported, { a: 1 })
  const numbered = [[1, 1], [3, 1], [2, 2]].reduce((before, [$version, a]) => reported(before, { a, $version }), absentTwin(0, 0))
  t.same(numbered.reported, { a: 1 })
})

t.test('the leaves of a report that are newer count, the others do not', async t => {
  let state = reported(absentTwin(0, 0), { a: 1, b: 1, $version: 5 })
  state = reported(state, { a: 2, $version: 9 })
  state = reported(state, { a: 0, b: 0, c: 0, $version: 7 })
  t.same(state.reported, { a: 2, b: 0, c: 0 })
  t.same(state.times.reported.get('b')?.v, 7)
})

t.test('a removal is remembered, a hundred of them, and a later report of the leaf counts', async t => {
  let state = reported(absentTwin(0, 0), { a: 1, $version: 1 })
  state = reported(state, { a: null, $version: 3 })
  t.same(reported(state, { a: 2, $version: 2 }).reported, {})
  t.same(reported(state, { a: 4, $version: 4 }).reported, { a: 4 })
  for (let i = 0; i < 150; i++) state = reported(state, { [`k${i}`]: null, $version: 10 + i })
  t.equal(state.gone.reported.size, 100)
  t.ok(state.gone.reported.has('k149'))
})

const wins = (conflicts: TwinRules['conflicts']): TwinRules => ({ conflicts, check: () => null })

t.test('who wins where a report contradicts what is desired is the model\'s policy', async t => {
  const desired = desire(absentTwin(0, 0), { mode: 'auto', limits: { max: 5 } }, base)
  const rows: readonly (readonly [TwinRules['conflicts'], number | null, JsonObject, JsonObject])[] = [
    ['cloud', null, { mode: 'auto', limits: { max: 5 } }, { mode: 'auto' }],
    ['device', null, { mode: 'manual', limits: { max: 5 } }, {}],
    ['device', -1000, { mode: 'manual', limits: { max: 5 } }, {}],
    ['newest', null, { mode: 'manual', limits: { max: 5 } }, {}],
    ['newest', 1000, { mode: 'manual', limits: { max: 5 } }, {}],
    ['newest', -1000, { mode: 'auto', limits: { max: 5 } }, { mode: 'auto' }]
  ]
  for (const [conflicts, offsetMs, wanted, delta] of rows) {
    const state = reported(desired, { mode: 'manual', limits: { max: 5 }, ...(offsetMs === null ? {} : { $ts: base / 1000 + offsetMs }) }, { stamp: base + 5e6, rules: wins(conflicts) })
    t.same(state.desired, wanted, `${conflicts} ${offsetMs}`)
    t.same(deltaOf(state), delta)
    t.equal(state.version, 2, 'one step')
    t.equal(state.desiredVersion, delta.mode === undefined ? 2 : 1)
  }
  t.same(reported(desired, { mode: null, limits: 3 }, { rules: wins('device') }).desired, { limits: 3 })
  t.same(reported(desired, { other: 1 }, { rules: wins('device') }).desired, desired.desired, 'what is not desired is not taken over')
})

t.test('what is taken out of desired is in the delta until the device has spoken about it', async t => {
  let state = reported(desire(absentTwin(0, 0), { a: 1, b: { c: 1 } }), { a: 1, b: { c: 1, d: 2 } })
  t.same(deltaOf(state), {})
  state = desire(state, { a: null, b: { c: null } })
  t.same(deltaOf(state), { a: null, b: { c: null } })
  t.same(deltaOf(reported(state, { a: null, b: { c: null } })), {}, 'it has removed it')
  t.same(deltaOf(reported(state, { a: 7 })), { b: { c: null } }, 'it insists')
  t.same(deltaOf(desire(state, { a: 1 })), { b: { c: null } }, 'it is desired again')
  t.same(deltaOf(desire(state, { b: 5 })), { a: null, b: 5 })
  t.same(deltaOf(desire(state, {}, 0, true)), { a: null, b: { c: null } }, 'desired is emptied')
})

t.test('reports that are none are refused with what is wrong', async t => {
  const stamp = 1_750_000_000_000_000
  const rows: readonly (readonly [string | Uint8Array, string])[] = [
    ['', 'json_invalid'], ['{', 'json_invalid'], [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'json_invalid'], ['[]', 'twin_invalid'], ['null', 'twin_invalid'], ['"a"', 'twin_invalid'], ['{"$version":-1}', 'twin_invalid'], ['{"$version":1.5}', 'twin_invalid'],
    ['{"$version":"1"}', 'twin_invalid'], ['{"$ts":"yesterday"}', 'ts_invalid'], ['{"$ts":-5}', 'ts_invalid'], ['{"$ts":{}}', 'ts_invalid'], [`{"$ts":${stamp / 1000 + 600_001}}`, 'ts_future'], ['{"$other":1}', 'twin_invalid'], ['{"a":{"$version":1}}', 'twin_invalid'], ['{"__proto__":{"x":1}}', 'twin_invalid'],
    ['{"a":1e999}', 'twin_invalid'], [`{"a":${'['.repeat(20)}${']'.repeat(20)}}`, 'too_deep']
  ]
  for (const [payload, code] of rows) t.match(parseReport(Buffer.from(payload as string), stamp, twinLimits), { code }, String(payload).slice(0, 40))
  t.match(parseReport(Buffer.from(`{"$ts":${stamp / 1000 + 600_000}}`), stamp, twinLimits), { patch: {} }, 'ten minutes ahead')
  t.match(parseReport(Buffer.from('{"a":1,"$ts":"2025-06-15T15:06:40.5Z","$version":0}'), stamp, twinLimits), { patch: { a: 1 }, v: 0, at: 1_750_000_000_500_000 })
})

t.test('limits are judged on the whole result, and a refused report changes nothing', async t => {
  const state = reported(absentTwin(0, 0), { a: 'x'.repeat(20_000) })
  const report = parseReport(Buffer.from(JSON.stringify({ b: 'y'.repeat(13_000), c: 1 })), state.updatedAt + 1, twinLimits) as Report
  const source = { report, from: { journalId: journal, position: ++position, stamp: state.updatedAt + 1 }, actor: device, byStamp: true }
  const before = encodeState(state)
  t.match(planReport(state, source, context(state)), { kind: 'refused', refusal: { code: 'limit_reached', detail: /reported would have 33\d{3} bytes; 32768/ } })
  const deepest = reported(absentTwin(0, 0), { a: { b: { c: { d: { e: { f: { g: { h: { i: 1 } } } } } } } } })
  t.same(planReport(deepest, { ...source, report: { ...report, patch: { z: 1 } } }, context(deepest)).kind, 'step')
  t.match(planReport(state, source, context(state, { conflicts: 'cloud', check: () => '/reported/b is not an integer' })), { kind: 'refused' })
  t.match(planReport(state, { ...source, report: { ...report, patch: { b: 1 } } }, context(state, { conflicts: 'cloud', check: () => '/reported/b is no text' })), { kind: 'refused_by_rules', detail: '/reported/b is no text' })
  t.equal(encodeState(state), before)
})
