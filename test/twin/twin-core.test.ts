import t from 'tap'
import fc from 'fast-check'
import { diffPatch, mergePatch, sameJson } from '../../src/twin/json-merge.js'
import { keysOf, leavesOf, pathOf } from '../../src/twin/leaf-path.js'
import { checkShape, checkSize, checkTags, twinLimits } from '../../src/twin/twin-limits.js'
import type { Json, JsonObject } from '../../src/twin/twin-model.js'
import { newSeed } from '../store/store-fixtures.js'

const seed = newSeed()
t.comment(`seed ${seed}`)
const runs = { seed, numRuns: 300 }

const keys = fc.constantFrom('a', 'b', 'c', 'a.b', 'c\\d', '10', '2', 'constructor', 'toString', '__proto__')
const scalar: fc.Arbitrary<Json> = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.boolean(), fc.constantFrom('x', 'y', ''), fc.constantFrom([1], [1, { a: null }], []) as fc.Arbitrary<Json>)
const objects = (nulls: boolean): fc.Arbitrary<JsonObject> => fc.letrec<{ object: JsonObject, value: Json }>(tie => ({
  object: fc.array(fc.tuple(keys, tie('value')), { maxLength: 4 }).map(entries => Object.fromEntries(entries)),
  value: fc.oneof({ depthSize: 'small', withCrossShrink: true }, nulls ? fc.oneof(scalar, fc.constant(null)) : scalar, tie('object'))
})).object
const state = objects(false)
const patch = objects(true)

/** RFC 7396 section 2, word for word. */
function reference (target: Json | undefined, of: Json): Json {
  if (typeof of !== 'object' || of === null || Array.isArray(of)) return of
  const result = new Map(typeof target === 'object' && target !== null && !Array.isArray(target) ? Object.entries(target) : [])
  for (const [key, value] of Object.entries(of)) {
    if (value === null) result.delete(key)
    else result.set(key, reference(result.get(key) as Json, value as Json) as never)
  }
  return Object.fromEntries(result) as Json
}

t.test('a merge patch is applied as RFC 7396 says, and its examples hold', async t => {
  fc.assert(fc.property(state, patch, (target, of) => sameJson(mergePatch(target, of), reference(target, of))), runs)
  const rows: readonly (readonly [JsonObject, JsonObject, JsonObject])[] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }], [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }], [{ a: 'b' }, { a: null }, {}], [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }], [{ a: ['b'] }, { a: 'c' }, { a: 'c' }], [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }], [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }], [{ e: null }, { a: 1 }, { e: null, a: 1 }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }]
  ]
  for (const [target, of, result] of rows) t.same(mergePatch(target, of), result)
})

t.test('the difference of two states leads from one to the other, and is empty where they are equal', async () => {
  fc.assert(fc.property(state, state, (before, after) => sameJson(mergePatch(before, diffPatch(before, after)), after)), runs)
  fc.assert(fc.property(state, patch, (before, of) => { const after = mergePatch(before, of); return (Object.keys(diffPatch(before, after)).length === 0) === sameJson(before, after) }), runs)
})

t.test('a path names one leaf, whatever characters its keys have', async t => {
  fc.assert(fc.property(fc.array(fc.string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 5 }), names => { const back = keysOf(pathOf(names)); return back.length === names.length && back.every((key, i) => key === names[i]) }), runs)
  fc.assert(fc.property(state, object => { const paths = leavesOf(object).map(leaf => leaf.path); return new Set(paths).size === paths.length }), runs)
  t.equal(({} as { polluted?: boolean }).polluted, undefined)
})

t.test('limits hold at their edges, and the refusal names limit, size and place', async t => {
  const nested = (depth: number): JsonObject => { let value: Json = 1; for (let i = 0; i < depth; i++) value = { a: value }; return value as unknown as JsonObject }
  t.equal(checkShape(nested(10), '/desired', twinLimits), null)
  t.match(checkShape(nested(11), '/desired', twinLimits), { code: 'limit_reached', detail: /deeper than 10/ })
  t.equal(checkShape({ ['k'.repeat(128)]: 1 }, '', twinLimits), null)
  t.match(checkShape({ ['k'.repeat(129)]: 1 }, '', twinLimits), { code: 'invalid_field', detail: /129 characters; 1 to 128/ })
  for (const key of ['', 'a\u0000', 'a\u007f', 'a\u009f', '$x', '__proto__']) t.match(checkShape({ a: Object.fromEntries([[key, 1]]) }, '/desired', twinLimits), { code: 'invalid_field', field: /^\/desired\/a\// }, JSON.stringify(key))
  t.match(checkShape({ a: [{ $b: 1 }] }, '/desired', twinLimits), { field: '/desired/a/0/$b' })
  t.match(checkShape(JSON.parse('{"a":1e999}') as JsonObject, '', twinLimits), { detail: /range of a double/ })
  const deep = JSON.parse('{"a":' + '['.repeat(100_000) + ']'.repeat(100_000) + '}') as JsonObject
  t.match(checkShape(deep, '', twinLimits), { code: 'limit_reached' })
  const filled = (bytes: number): JsonObject => ({ a: 'x'.repeat(bytes - 8) })
  t.equal(checkSize('desired', filled(32_768), twinLimits), null)
  t.match(checkSize('desired', filled(32_769), twinLimits), { code: 'limit_reached', detail: 'desired would have 32769 bytes; 32768 are allowed', field: '/desired' })
  const tags = (count: number): Record<string, string> => Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, 'x']))
  t.equal(checkTags(tags(32), twinLimits), null)
  t.match(checkTags(tags(33), twinLimits), { code: 'limit_reached' })
  t.match(checkTags(Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`${'n'.repeat(60)}${i}`, 'x'.repeat(256)])), twinLimits), { code: 'limit_reached', detail: /8192/ })
  t.match(checkTags({ 'a b': 'x' }, twinLimits), { code: 'invalid_field', field: '/tags/a b' })
})
