import t from 'tap'
import fc from 'fast-check'
import { TwinfoldError } from '../../src/core/errors.js'
import { evaluateFilter, type FilterSubject } from '../../src/core/filter/evaluate-filter.js'
import { fieldsOf, filterDepthMax, filterTermsMax, isTimeField, type Filter } from '../../src/core/filter/filter.js'
import { parseFilter, parseFilterField } from '../../src/core/filter/parse-filter.js'
import { printField, printFilter } from '../../src/core/filter/print-filter.js'
import { anyFilter, anySubject, naive } from '../search/filter-world.js'

const us = (iso: string): number => Date.parse(iso) * 1000
const subject: FilterSubject = {
  id: 'd-1', type: 'pump', name: 'Pump "7"', gateway: null, createdAt: us('2026-01-01T00:00:00Z'), lastActivity: us('2026-02-01T12:00:00Z'),
  connection: { state: 'connected', since: us('2026-02-01T00:00:00Z') },
  tags: { site: 'berlin', 'a.b/c': 'x', '': 'never' },
  desired: { interval: 10, nested: { on: true, list: [1, 2] }, 'odd key': 'y', 'a.b': 1 },
  reported: { firmware: '1.9', battery: 3.7, charging: false, nothing: null, net: { ip: '10.0.0.1' } },
  latest: { temperature: 81.5, 'motor.rpm': 900, state: 'on', alarm: true, bad: NaN }
}

void t.test('what holds and what does not', async t => {
  const now = us('2026-02-01T13:00:00Z')
  const table: readonly (readonly [string, boolean])[] = [
    ['id eq "d-1"', true], ['id like "d-*"', true], ['id like "e*"', false], ['type in ("valve", "pump")', true], ['name eq "Pump \\"7\\""', true],
    ['gateway exists', false], ['gateway eq null', true], ['gateway ne "g"', true], ['not gateway exists', true],
    ['tags.site eq "berlin" and reported.firmware lt "2.0"', true], ['tags.site eq "paris" or reported.firmware lt "2.0"', true],
    ['tags.site eq "paris" or tags.site eq "rome" and id exists', false], ['(tags.site eq "paris" or id exists) and type eq "pump"', true],
    ['tags.a.b/c eq "x"', true], ['tags["a.b/c"] eq "x"', true], ['tags.`a.b/c` eq "x"', true], ['tags.toString exists', false], ['reported.__proto__ exists', false], ['reported.constructor exists', false],
    ['desired.interval ge 10', true], ['desired.interval gt 10', false], ['desired.interval eq "10"', false], ['desired.interval ne "10"', true], ['desired.nested exists', true], ['desired.nested.on eq true', true], ['desired.nested.on ne false', true],
    ['desired.nested eq "x"', false], ['desired.nested.list exists', true], ['desired.nested.list.0 exists', false], ['desired.`odd key` eq "y"', true], ['desired["a.b"] eq 1', true], ['desired.a.b exists', false],
    ['reported.battery lt 4', true], ['reported.battery lt "4"', false], ['reported.battery in (3.7, "x")', true], ['reported.charging eq false', true], ['reported.charging eq 0', false], ['reported.nothing exists', false], ['reported.nothing eq null', true], ['reported.net.ip like "10.0.*"', true],
    ['reported.missing lt 5', false], ['not reported.missing lt 5', true], ['reported.missing ne 5', true], ['reported.missing eq 5', false], ['reported.missing in (5)', false],
    ['latest.temperature gt 80', true], ['latest.motor.rpm eq 900', true], ['latest["motor.rpm"] le 900', true], ['latest.state eq "on"', true], ['latest.alarm eq true', true], ['latest.bad exists', true], ['latest.bad lt 1', false], ['latest.bad ge 1', false], ['latest.bad ne 1', true],
    ['lastActivity gt now-1h', false], ['lastActivity ge now-1h', true], ['lastActivity ge now-60m', true], ['lastActivity lt now+1s', true], ['lastActivity eq "2026-02-01T12:00:00Z"', true], ['lastActivity eq 2026-02-01T12:00:00Z', true], ['lastActivity eq 1769947200000', true], ['lastActivity in (2026-02-01T12:00:00Z, now)', true],
    ['connection.state eq "connected"', true], ['connection.state ne "disconnected"', true], ['connection.since lt 2026-02-01T00:00:01+00:00', true], ['createdAt ge 2026-01-01', true],
    ['id EXISTS AND NOT type EQ "x"', true]
  ]
  for (const [text, wanted] of table) t.equal(evaluateFilter(parseFilter(text), subject, now), wanted, text)
})

void t.test('a device of which little is known has no more than that', async t => {
  for (const text of ['name exists', 'tags.a exists', 'reported.a exists', 'latest.a exists', 'connection.state exists', 'lastActivity exists', 'createdAt lt now']) t.equal(evaluateFilter(parseFilter(text), { id: 'x' }), false, text)
  t.equal(evaluateFilter(parseFilter('lastActivity lt now'), { id: 'x', lastActivity: 1 }), true, 'now is this machine\'s')
})

void t.test('what is wrong is named, with its place and what was expected there', async t => {
  const deep = (count: number): string => `${'('.repeat(count)}id exists${')'.repeat(count)}`
  const table: readonly (readonly [string, number, RegExp])[] = [
    ['', 1, /expected a field: id, name.*the filter ends/], ['id', 3, /an operator: eq, ne/], ['id eq', 6, /a value: a string/], ['id eq x', 7, /a value.*found 'x'/], ['id = "x"', 4, /found '='/], ['ids exists', 1, /expected a field.*found 'ids'/],
    ['id.x exists', 1, /expected a field/], ['tags exists', 1, /'tags' takes a name/], ['tags. exists', 5, /expected a key/], ['reported.a..b exists', 11, /expected a key/], ['reported[0] exists', 9, /expected a key/], ['reported.`a exists', 9, /expected a key/],
    ['id exists and', 14, /the filter ends/], ['id exists id exists', 11, /expected 'and', 'or' or the end/], ['(id exists', 11, /expected '\)'/], ['id exists)', 10, /'and', 'or' or the end/], ['id in ()', 8, /a value/], ['id in ("a" "b")', 12, /',' or '\)'/], ['id in (null)', 8, /what is missing/],
    ['id eq "x', 7, /closing quote/], ['id eq "\\x"', 7, /closing quote/], ["id eq 'x'", 7, /found '''/], ['reported.a lt true', 12, /compares numbers, strings and times/], ['reported.a lt null', 12, /compares numbers/], ['reported.a lt now', 15, /a value/], ['reported.a eq 1e999', 15, /fits a double/], ['reported.a eq 01', 16, /'and', 'or' or the end/],
    ['lastActivity gt "soon"', 17, /a time: ISO 8601/], ['lastActivity gt true', 17, /a time/], ['lastActivity like "2026*"', 14, /is a time/], ['createdAt gt 2026-02-31', 14, /ISO 8601 time/], ['createdAt gt 9e99', 14, /a time/], ['connection.state eq "online"', 21, /"connected" or "disconnected"/],
    ['id like "x"', 9, /one \* at its end/], ['id like "*x*"', 9, /one \* at its end/], ['id like 5', 9, /one \* at its end/], ['id eq "a"; drop table twins', 10, /found ';'/], ['\u0000', 1, /expected a field/], ['💥', 1, /found '💥'/],
    [deep(filterDepthMax + 1), 11, /at most 10 deep/], [`${'not '.repeat(11)}id exists`, 41, /at most 10 deep/], [Array.from({ length: filterTermsMax + 1 }, () => 'id exists').join(' or '), 651, /at most 50 comparisons/], [`id eq "${'x'.repeat(2000)}"`, 2001, /at most 2000 characters/], [`reported.${'a.'.repeat(10)}a exists`, 1, /at most 10 keys/]
  ]
  for (const [text, place, what] of table) {
    try {
      parseFilter(text, 'if')
      t.fail(`'${text.slice(0, 50)}' was taken`)
    } catch (error) {
      t.match(error, { code: 'invalid_field', field: 'if', message: what }, text.slice(0, 50))
      t.match((error as Error).message, `'if' at character ${place}:`, text.slice(0, 50))
    }
  }
  t.doesNotThrow(() => parseFilter(deep(filterDepthMax)))
})

void t.test('a field can be read alone', async t => {
  t.strictSame(parseFilterField('reported.a["b c"]', 'sort'), { root: 'reported', path: ['a', 'b c'] })
  t.equal(printField({ root: 'latest', path: ['a.b'] }), 'latest["a.b"]')
  t.throws(() => parseFilterField('reported.a eq 1', 'sort'), { code: 'invalid_field', field: 'sort' })
  t.equal(isTimeField(parseFilterField('connection.since', 'x')), true)
  t.strictSame(fieldsOf(parseFilter('id exists and not (type eq "x" or tags.a exists)')).map(printField), ['id', 'type', 'tags.a'])
})

const seed = Number(process.env.SEED ?? Date.now() % 1e9)
const checked = (name: string, property: fc.IRawProperty<unknown>, runs = 2000): void => {
  void t.test(`${name} (seed ${seed})`, async () => { fc.assert(property as fc.IRawProperty<[unknown]>, { seed, numRuns: runs }) })
}

checked('a filter that is printed reads back as itself', fc.property(anyFilter, filter => {
  const text = printFilter(filter)
  if (text.length > 2000) return
  if (JSON.stringify(parseFilter(text)) !== JSON.stringify(filter)) throw new Error(`${text} became ${JSON.stringify(parseFilter(text))}, not ${JSON.stringify(filter)}`)
}), 500)

checked('filters hold as somebody would say who reads them', fc.property(anyFilter, anySubject, fc.integer({ min: 0, max: 4e15 }), (filter, subject, now) => {
  if (evaluateFilter(filter, subject, now) !== naive(filter, subject, now)) throw new Error(`${printFilter(filter)} of ${JSON.stringify(subject)}`)
}), 5000)

const pieces = fc.constantFrom('id', 'tags.', 'reported', '.a', '["', '"]', '`', '(', ')', 'and', 'or', 'not', 'eq', 'in', 'like', 'exists', '"x"', '"', '\\', '5', '-', '1e5', 'now', 'now-1h', '2026-01-01', ' ', ',', 'null', 'true', 'latest.m', '\n', 'é', '\ud800')
checked('whatever is sent is read, or refused as invalid_field', fc.property(fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: 'binary', maxLength: 60 }), fc.array(pieces, { maxLength: 25 }).map(parts => parts.join('')), fc.array(pieces, { maxLength: 25 }).map(parts => parts.join(' '))), text => {
  let filter: Filter
  try {
    filter = parseFilter(text)
  } catch (error) {
    if (error instanceof TwinfoldError && error.code === 'invalid_field') return
    throw error
  }
  evaluateFilter(filter, subject)
}), 5000)
