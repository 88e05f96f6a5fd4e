import { crc32c } from '@node-rs/crc32'
import { copyFileSync, readFileSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseSegmentFileName, segmentFileName } from '../../src/journal/filenames.js'
import { markRecordBytes } from '../../src/journal/mark-record.js'
import { encodeIdentity, RecordKind, type SliceMark } from '../../src/journal/record.js'
import { formatVersion } from '../../src/journal/segment-header.js'
import { appendAll, appendText, chooseSeed, identity, ManualClock, open, Outcomes, readBack, seededRandom, segmentPaths, temporaryDirectory, textsOf } from './journal-support.js'

void t.test('after the tail was cut anywhere, exactly the whole records before the cut are there', async t => {
  const seed = chooseSeed()
  const random = seededRandom(seed)
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  const texts = Array.from({ length: 60 }, (_, i) => `${i}:`.padEnd(3 + Math.floor(random() * 300), '#'))
  await appendAll(journal, texts)
  const ends = readBack(journal).records.map(({ position, text }) => position + 24 + identity.length + text.length)
  await journal.close()
  const [path] = segmentPaths(directory)
  const bytes = statSync(path).size
  for (let round = 0; round < 40; round++) {
    const copy = temporaryDirectory(t)
    const target = join(copy, path.split('/').at(-1) as string)
    copyFileSync(path, target)
    const length = Math.floor(random() * (bytes + 1))
    truncateSync(target, length)
    const again = await open(copy)
    const whole = ends.filter(end => end <= length).length
    t.same(textsOf(again), texts.slice(0, whole), `cut at ${length} (seed ${seed})`)
    t.same(again.recovered.damaged, [])
    await again.close()
  }
})

void t.test('random damage anywhere loses only the records it touches', async t => {
  const seed = chooseSeed()
  const random = seededRandom(seed)
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  const texts = Array.from({ length: 80 }, (_, i) => `${i}:`.padEnd(3 + Math.floor(random() * 200), '#'))
  await appendAll(journal, texts)
  const records = readBack(journal).records
  await journal.close()
  const [path] = segmentPaths(directory)
  const whole = readFileSync(path)
  for (let round = 0; round < 60; round++) {
    const copy = temporaryDirectory(t)
    const damaged = Buffer.from(whole)
    const touched = new Set<string>()
    for (let i = 0; i < 1 + Math.floor(random() * 4); i++) {
      const at = 64 + Math.floor(random() * (whole.length - 64))
      const count = Math.min(1 + Math.floor(random() * 200), whole.length - at)
      for (let k = at; k < at + count; k++) damaged[k] ^= 1 + Math.floor(random() * 255)
      for (const { text, position } of records) {
        if (position < at + count && position + 24 + identity.length + text.length > at) touched.add(text)
      }
    }
    // An even number of hits may restore a byte, so a touched record may survive; an untouched one must.
    writeFileSync(join(copy, path.split('/').at(-1) as string), damaged)
    const again = await open(copy)
    const found = textsOf(again)
    t.same(found, texts.filter(text => found.includes(text)), `order kept, nothing twice (seed ${seed})`)
    t.same(texts.filter(text => !touched.has(text) && !found.includes(text)), [], `nothing untouched is lost (seed ${seed})`)
    await again.close()
  }
})

void t.test('a segment of a newer format is refused by name, with both versions', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  await appendAll(journal, ['a'])
  await journal.close()
  const [path] = segmentPaths(directory)
  const bytes = readFileSync(path)
  bytes.writeUInt32LE(formatVersion + 1, 8)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60), 0), 60)
  writeFileSync(path, bytes)
  await t.rejects(open(directory), { code: 'format_newer', message: new RegExp(`${path}.*format ${formatVersion + 1}.*up to ${formatVersion}`) })
  t.same(readFileSync(path), bytes, 'and nothing is changed')
})

void t.test('segments of two journals in one directory are refused', async t => {
  const directory = temporaryDirectory(t)
  await (await open(directory)).close()
  const other = temporaryDirectory(t)
  await (await open(other)).close()
  const [path] = segmentPaths(other)
  copyFileSync(path, join(directory, path.split('/').at(-1) as string))
  await t.rejects(open(directory), { code: 'corrupt_data' })
})

void t.test('the journal keeps its id, opens a new segment at every start, and drops those without a record', async t => {
  const directory = temporaryDirectory(t)
  const first = await open(directory)
  const id = first.journalId
  t.match(id, /^[0-9a-f]{16}$/)
  await first.close()
  let end = 0
  for (let i = 0; i < 5; i++) {
    const journal = await open(directory)
    t.equal(journal.journalId, id)
    t.ok(journal.durableEnd >= end)
    await journal.close()
  }
  t.equal(segmentPaths(directory).length, 1, 'starts without records leave no files behind')
  const journal = await open(directory)
  await appendAll(journal, ['x'])
  end = journal.durableEnd
  await journal.close()
  const again = await open(directory)
  t.equal(segmentPaths(directory).length, 2)
  t.same(textsOf(again), ['x'])
  t.equal(again.durableEnd, end)
  t.same(again.recovered.damaged, [])
  await again.close()
})

void t.test('stamps rise strictly over restarts, whatever the clock does and whatever was released', async t => {
  const directory = temporaryDirectory(t)
  const clock = new ManualClock()
  let last = 0
  for (let round = 0; round < 6; round++) {
    clock.us -= 3_600_000_000
    const journal = await open(directory, { clock })
    for (let i = 0; i < 3; i++) {
      const stamp = appendText(journal, 'x'.repeat(100), null, 0, 5)
      t.ok(stamp > last, `round ${round}`)
      last = stamp + 4
    }
    if (round % 2 === 0) {
      const mark = await journal.mark() as SliceMark
      t.ok(mark.stamp > last + 12)
      last = mark.stamp
      await journal.releaseBefore(mark.to)
    }
    if (round === 4) {
      // Everything is packed and released, and a start without records follows: only a segment header knows the stamps.
      await journal.close()
      await (await open(directory, { clock, cursorOf: () => journal.durableEnd })).close()
      const empty = await open(directory, { clock, cursorOf: () => journal.durableEnd })
      await empty.releaseBefore(journal.durableEnd)
      t.same(textsOf(empty), [])
      await empty.close()
      continue
    }
    await journal.close()
  }
  const floor = await open(directory, { clock, stampFloor: last + 1e9 })
  t.ok(appendText(floor, 'y') > last + 1e9)
  await floor.close()
})

void t.test('recovery gives the marks behind the cursor and leaves the open slice to the caller', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory, { segmentBytesMax: 700 })
  const marks: SliceMark[] = []
  const slices: string[][] = []
  for (let slice = 0; slice < 6; slice++) {
    const texts = Array.from({ length: 4 }, (_, i) => `${slice}.${i}`.padEnd(60, '-'))
    slices.push(texts)
    await appendAll(journal, texts)
    marks.push(await journal.mark() as SliceMark)
  }
  await appendAll(journal, ['tail 1', 'tail 2'])
  await journal.close()
  for (let packed = 0; packed <= 6; packed++) {
    const cursor = packed === 0 ? null : marks[packed - 1].to
    const again = await open(directory, { cursorOf: async id => { t.equal(id, journal.journalId); return cursor } })
    t.equal(again.recovered.cursor, cursor ?? 0)
    t.same(again.recovered.marks, marks.slice(packed))
    t.equal(again.recovered.records, (6 - packed) * 4 + 2)
    t.same(again.recovered.marks.map(mark => readBack(again, mark.from, mark.to).records.map(({ text }) => text)), slices.slice(packed))
    t.same(readBack(again, again.recovered.nextFrom).records.map(({ text }) => text), ['tail 1', 'tail 2'])
    t.ok(again.unmarkedBytes > 0)
    await again.close()
  }
  const last = await open(directory, { cursorOf: () => marks[5].to })
  const mark = await last.mark() as SliceMark
  t.same(mark.from, last.recovered.nextFrom)
  t.equal(mark.records, 2)
  t.same(readBack(last, mark.from, mark.to).records.map(({ text }) => text), ['tail 1', 'tail 2'])
  await last.close()
})

void t.test('a released journal opens again and goes on behind what was packed', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory, { segmentBytesMax: 500 })
  await appendAll(journal, Array.from({ length: 30 }, (_, i) => `${i}`.padEnd(80, ' ')))
  const mark = await journal.mark() as SliceMark
  const before = segmentPaths(directory).length
  await journal.releaseBefore(mark.to)
  t.ok(segmentPaths(directory).length < before)
  t.equal(journal.stats.segmentsReleased, before - segmentPaths(directory).length)
  await journal.close()
  const again = await open(directory, { cursorOf: () => mark.to })
  t.same(again.recovered.marks, [])
  t.same(again.recovered.damaged, [])
  t.equal(again.recovered.nextFrom, mark.to + markRecordBytes)
  t.equal(await again.mark(), null)
  await again.close()
})

void t.test('a cursor beyond the journal (its disk lost a tail that was packed) moves new positions past it', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  await appendAll(journal, ['a'])
  await journal.close()
  const again = await open(directory, { cursorOf: () => 10_000 })
  await appendAll(again, ['b'])
  const mark = await again.mark() as SliceMark
  t.ok(mark.from >= 10_000, 'no slice gets the key of one that was packed')
  t.same(readBack(again, mark.from, mark.to).records.map(({ text }) => text), ['b'])
  await again.close()
  const third = await open(directory, { cursorOf: () => mark.to })
  t.same(third.recovered.damaged, [], 'the gap is known, not damage')
  t.equal(third.recovered.records, 0)
  await third.close()
})

void t.test('idempotency keys of unpacked records come back, those before the cursor do not', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory, { segmentBytesMax: 400 })
  const outcomes = new Outcomes()
  const stamps: number[] = []
  let mark: SliceMark | null = null
  for (let i = 0; i < 12; i++) {
    const keyed = encodeIdentity({ tenant: `t${i}`, device: i % 2 === 0 ? '' : 'd', idempotencyKey: i % 3 === 0 ? `c:key-${i}` : '', fingerprint: i % 3 === 0 ? `f${i}` : '' })
    stamps.push(journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity: keyed, body: Buffer.alloc(50), messages: 1 }, outcomes, i))
    if (i === 5) mark = await journal.mark()
  }
  await outcomes.settled(12)
  await journal.close()
  const cursor = (mark as SliceMark).to
  const again = await open(directory, { cursorOf: () => cursor })
  const expected = (numbers: number[]): object[] => numbers.map(i => ({ tenant: `t${i}`, key: `c:key-${i}`, fingerprint: `f${i}`, stamp: stamps[i] }))
  t.same([...again.recoverKeys(cursor)], expected([6, 9]))
  t.same([...again.recoverKeys(0)], expected([0, 3, 6, 9]))
  await again.close()
})

void t.test('names on disk say journal and base, and sort by base', async t => {
  t.same(parseSegmentFileName(segmentFileName('00ff00ff00ff00ff', 2 ** 52)), { journalId: '00ff00ff00ff00ff', base: 2 ** 52 })
  t.equal(parseSegmentFileName('00ff00ff00ff00ff-1.segment'), null)
  t.equal(parseSegmentFileName('00ff00ff00ff00ff-ffffffffffffff.segment'), null, 'beyond 53 bits')
  const names = [0, 9, 10, 255, 256, 2 ** 40, 2 ** 52].map(base => segmentFileName('00ff00ff00ff00ff', base))
  t.same([...names].sort(), names)
  const directory = temporaryDirectory(t)
  const journal = await open(directory, { random: () => Buffer.from('0123456789abcdef', 'hex') })
  t.same(readdirSync(directory), [segmentFileName('0123456789abcdef', 0)])
  await journal.close()
})
