import t from 'tap'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { bundledMonths, monthFiles, solarMessage, solarReadings } from '../../simulators/solar-data.js'

void t.test('every cell of the bundled month is in its message as it stands in the file', async t => {
  const [file] = bundledMonths()
  const lines = gunzipSync(readFileSync(file)).toString('utf8').trimEnd().split('\n')
  const names = lines[0].split(',')
  let row = 0
  let texts = 0
  for (const reading of solarReadings([file])) {
    const cells = lines[++row].split(',')
    const { ts, values } = JSON.parse(solarMessage(reading)) as { ts: number, values: Record<string, number | string> }
    if (new Date(ts).toISOString() !== cells[0].replace('Z', '.000Z')) t.fail(`row ${row}: ${ts}`)
    if (Object.keys(values).length !== names.length - 1) t.fail(`row ${row}: ${Object.keys(values).length} values`)
    for (let column = 1; column < names.length; column++) {
      const value = values[names[column]]
      if (typeof value === 'string') texts++
      if (typeof value === 'string' ? value !== cells[column] : value !== Number(cells[column])) t.fail(`row ${row}: ${names[column]}`)
    }
  }
  t.equal(row, 43_166)
  t.equal(texts, 1, 'the damaged cell is a string')
})

void t.test('months are read in the order of time, plain or compressed, and only those asked for', async t => {
  const directory = t.testdir({ 'notes.txt': 'no month' })
  mkdirSync(join(directory, 'more'))
  writeFileSync(join(directory, '2017-02.csv'), 'ts,a,b\n2017-02-01T00:00:00Z,1.50,\n')
  writeFileSync(join(directory, '2017-01.csv.gz'), gzipSync('ts,a,b\n2017-01-01T00:00:00Z,-0.0,x"y\n2017-01-01T00:01:00Z,007,1e5\n'))
  const bodies = [...solarReadings(monthFiles(directory))].map(reading => solarMessage(reading, 1000))
  t.same(bodies, [
    '{"ts":1483228801000,"values":{"a":-0.0,"b":"x\\"y"}}',
    '{"ts":1483228861000,"values":{"a":"007","b":"1e5"}}',
    '{"ts":1485907201000,"values":{"a":1.50}}'
  ])
  t.same(monthFiles(directory, ['2017-02']), [join(directory, '2017-02.csv')])
  t.throws(() => monthFiles(directory, ['2018-01']), /no monthly files/)
})

void t.test('a file that is no such month is named with its line', async t => {
  const directory = t.testdir({ '2017-01.csv': 'ts,a\n2017-01-01T00:00:00Z,1,2\n', '2017-02.csv': 'ts,a\nyesterday,1\n', '2017-03.csv': 'a,ts\n' })
  t.throws(() => [...solarReadings(monthFiles(directory, ['2017-01']))], /2017-01\.csv:2: 3 cells/)
  t.throws(() => [...solarReadings(monthFiles(directory, ['2017-02']))], /2017-02\.csv:2: no timestamp/)
  t.throws(() => [...solarReadings(monthFiles(directory, ['2017-03']))], /first column must be ts/)
})
