import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { recordBytesMax } from '../../src/core/limits.js'
import { markRecordBytes } from '../../src/journal/mark-record.js'
import { nodeFileSystem, type JournalFileSystem } from '../../src/journal/file-system.js'
import { encodeIdentity, RecordFlags, RecordKind, type SliceMark } from '../../src/journal/record.js'
import { readSlice, scanRecords } from '../../src/journal/segment-scan.js'
import { appendAll, appendText, identity, ManualClock, mib, open, Outcomes, readBack, segmentPaths, temporaryDirectory, textsOf } from './journal-support.js'

void t.test('a record comes back as it was appended, with identity, flags, messages and stamp', async t => {
  const journal = await open(temporaryDirectory(t))
  const keyed = encodeIdentity({ tenant: 'acme', device: '', idempotencyKey: 'cred:abc', fingerprint: '123:9' })
  const outcomes = new Outcomes()
  const body = Buffer.from('{"a":1}\n{"a":2}')
  const stamp = journal.append({ kind: RecordKind.bodyNdjson, flags: RecordFlags.multiDevice, identity: keyed, body, messages: 2 }, outcomes, 7)
  await outcomes.settled(1)
  const seen: object[] = []
  for (const piece of readSlice(journal.segmentsFor(0, journal.durableEnd), 0, journal.durableEnd)) {
    const damages = scanRecords(piece.buffer, piece.base, piece.from, piece.to, journal.journalId, record => {
      seen.push({ ...record, identity: piece.buffer.toString('latin1', record.identityStart, record.identityEnd), body: piece.buffer.toString('latin1', record.bodyStart, record.bodyEnd) })
    }, piece.segmentBase)
    t.same(damages, [])
  }
  t.match(seen, [{ kind: RecordKind.bodyNdjson, flags: RecordFlags.multiDevice, messages: 2, stamp, position: 64, identity: keyed.toString('latin1'), body: body.toString('latin1') }])
  t.equal(seen.length, 1)
  t.same([...journal.recoverKeys(0)], [{ tenant: 'acme', key: 'cred:abc', fingerprint: '123:9', stamp }])
  await journal.close()
})

void t.test('waiters are told in the order of the records, and only after the sync', async t => {
  let syncs = 0
  let synced = 0
  const fileSystem: JournalFileSystem = {
    ...nodeFileSystem,
    sync (file, done) { syncs++; nodeFileSystem.sync(file, error => { synced++; done(error) }) }
  }
  const journal = await open(temporaryDirectory(t), { fileSystem })
  const before = synced
  const order: number[] = []
  const syncedAt: number[] = []
  const waiter = {
    committed (token: number) {
      order.push(token)
      syncedAt.push(synced)
      if (token < 3) appendText(journal, `again ${token}`, waiter, token + 100)
    },
    failed () { t.fail('nothing fails here') }
  }
  for (let i = 0; i < 50; i++) appendText(journal, `record ${i}`, waiter, i)
  t.same(order, [], 'nothing is told before the event loop turns')
  t.equal(syncs, before, 'records of one turn share a commit')
  while (order.length < 53) await new Promise(resolve => setImmediate(resolve))
  await journal.close()
  t.same(order, [...Array.from({ length: 50 }, (_, i) => i), 100, 101, 102])
  t.equal(syncedAt[0], before + 1)
  t.equal(syncedAt[49], before + 1)
  t.ok(syncedAt[50] >= before + 2, 'what a waiter appends belongs to the next group')
  t.equal(journal.stats.records, 53)
})

void t.test('while one group is written the next one gathers, without a timer', async t => {
  const held: (() => void)[] = []
  let hold = false
  const fileSystem: JournalFileSystem = {
    ...nodeFileSystem,
    sync (file, done) {
      if (hold) held.push(() => { nodeFileSystem.sync(file, done) })
      else nodeFileSystem.sync(file, done)
    }
  }
  const journal = await open(temporaryDirectory(t), { fileSystem })
  hold = true
  const outcomes = new Outcomes()
  appendText(journal, 'first', outcomes, 0)
  while (held.length === 0) await new Promise(resolve => setImmediate(resolve))
  for (let i = 1; i <= 20; i++) {
    appendText(journal, `next ${i}`, outcomes, i)
    await new Promise(resolve => setImmediate(resolve))
  }
  t.same(outcomes.committedTokens, [])
  t.equal(held.length, 1, 'one write is in flight')
  hold = false
  for (const release of held) release()
  await outcomes.settled(21)
  t.equal(journal.stats.commits, 2)
  t.same(outcomes.committedTokens, Array.from({ length: 21 }, (_, i) => i))
  await journal.close()
})

void t.test('bodies of every size come back, copied or referenced, across chunks, groups and segments', async t => {
  const directory = temporaryDirectory(t)
  const sizes = [0, 1, 7, 16383, 16384, 16385, 100_000, mib, 3 * mib, 5, 4 * mib]
  const journal = await open(directory, { segmentBytesMax: 2 * mib, sliceBytesMax: 5 * mib })
  const outcomes = new Outcomes()
  const texts = sizes.map((size, i) => String.fromCharCode(65 + i).repeat(size))
  texts.forEach((text, i) => appendText(journal, text, outcomes, i))
  await outcomes.settled(sizes.length)
  t.same(outcomes.failedTokens, [])
  t.strictSame(textsOf(journal).map(text => `${text[0]} ${text.length}`), texts.map(text => `${text[0]} ${text.length}`))
  await journal.close()
  t.ok(segmentPaths(directory).length >= 4)
  const again = await open(directory, { segmentBytesMax: 2 * mib })
  t.ok(textsOf(again).every((text, i) => text === texts[i]))
  t.same(again.recovered.damaged, [])
  await again.close()
})

void t.test('a record above the limit is refused and leaves the journal as it was', async t => {
  const journal = await open(temporaryDirectory(t))
  t.throws(() => journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.alloc(recordBytesMax), messages: 1 }, null, 0), { code: 'payload_too_large' })
  await appendAll(journal, ['a'])
  t.same(textsOf(journal), ['a'])
  await journal.close()
})

void t.test('more waiting bytes than the bound are refused, and taken again after the commit', async t => {
  const journal = await open(temporaryDirectory(t), { waitingBytesMax: 1000 })
  const outcomes = new Outcomes()
  appendText(journal, 'x'.repeat(700), outcomes, 0)
  t.throws(() => appendText(journal, 'x'.repeat(700), outcomes, 1), { code: 'journal_unavailable' })
  await outcomes.settled(1)
  appendText(journal, 'x'.repeat(700), outcomes, 2)
  await outcomes.settled(2)
  t.same(outcomes.committedTokens, [0, 2])
  await journal.close()
})

void t.test('close commits what waits and refuses what comes later', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  const outcomes = new Outcomes()
  for (let i = 0; i < 100; i++) appendText(journal, `r${i}`, outcomes, i)
  const marking = journal.mark()
  await journal.close()
  t.equal(outcomes.committedTokens.length, 100)
  t.match(await marking, { records: 100 })
  t.throws(() => appendText(journal, 'late'), { code: 'journal_unavailable' })
  await t.rejects(journal.mark(), { code: 'journal_unavailable' })
  await journal.close()
  const again = await open(directory)
  t.equal(textsOf(again).length, 100)
  await again.close()
})

void t.test('a mark covers exactly the records since the mark before, and the listener hears all marks in order', async t => {
  const journal = await open(temporaryDirectory(t))
  const heard: SliceMark[] = []
  journal.onMark(mark => { heard.push(mark) })
  t.equal(await journal.mark(), null, 'nothing to mark')
  await appendAll(journal, ['a', 'b'])
  t.equal(journal.unmarkedBytes, 2 * (24 + identity.length + 1))
  const first = await journal.mark() as SliceMark
  t.equal(journal.unmarkedBytes, 0)
  t.equal(await journal.mark(), null, 'a mark is not a record')
  await appendAll(journal, ['c'])
  const second = await journal.mark() as SliceMark
  t.same(heard, [first, second])
  t.same(readBack(journal, first.from, first.to).records.map(({ text }) => text), ['a', 'b'])
  t.same(readBack(journal, second.from, second.to).records.map(({ text }) => text), ['c'])
  t.equal(second.from, first.to + markRecordBytes)
  t.match([first.records, second.records], [2, 1])
  await journal.close()
})

void t.test('stamps move past those that elements of unstamped arrays may take', async t => {
  const clock = new ManualClock()
  const journal = await open(temporaryDirectory(t), { clock })
  const [small] = await appendAll(journal, ['x'])
  const large = appendText(journal, 'y'.repeat(8000), null, 0, 3)
  t.equal(small, clock.us)
  t.equal(large, small + 1)
  const mark = await journal.mark() as SliceMark
  t.ok(mark.stamp > large + 2 + 1000, 'three messages, and up to 1000 elements in the last')
  const [after] = await appendAll(journal, ['z'])
  t.ok(after > mark.stamp)
  await journal.close()
})

void t.test('a given stamp is kept, and the mark lies above it', async t => {
  const clock = new ManualClock()
  const journal = await open(temporaryDirectory(t), { clock })
  const original = clock.us - 5_000_000
  t.equal(journal.append({ kind: RecordKind.bodyAuto, flags: RecordFlags.replay, identity, body: Buffer.from('r'), messages: 1, stamp: original }, null, 0), original)
  const ahead = clock.us + 1000
  journal.append({ kind: RecordKind.bodyAuto, flags: RecordFlags.replay, identity, body: Buffer.from('s'), messages: 4, stamp: ahead }, null, 0)
  const mark = await journal.mark() as SliceMark
  t.ok(mark.stamp > ahead + 3)
  t.same(readBack(journal).records.map(({ stamp }) => stamp), [original, ahead])
  await journal.close()
})

void t.test('slices stay within their bound without anybody marking', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory, { sliceBytesMax: 1000 })
  const heard: SliceMark[] = []
  journal.onMark(mark => { heard.push(mark) })
  const texts = Array.from({ length: 100 }, (_, i) => `${i} `.padEnd(40 + i, 'x'))
  await appendAll(journal, texts)
  t.ok(heard.length >= 8)
  for (const mark of heard) t.ok(mark.to - mark.from <= 1000, 'a slice of at most 1000 bytes')
  const last = await journal.mark() as SliceMark
  const found = heard.flatMap(mark => readBack(journal, mark.from, mark.to).records.map(({ text }) => text))
  t.same(found, texts)
  t.same(heard[heard.length - 1], last)
  await journal.close()
  const again = await open(directory)
  t.same(again.recovered.marks, heard, 'recovery finds the same marks')
  t.equal(again.recovered.nextFrom, last.to + markRecordBytes)
  await again.close()
})

void t.test('at the bound on disk it slows, then refuses, and takes again after a release', async t => {
  const journal = await open(temporaryDirectory(t), { diskBytesMax: 40_000, segmentBytesMax: 4000 })
  const states: string[] = []
  journal.onState(state => { states.push(state) })
  const accepted: string[] = []
  let refusal: unknown
  for (let i = 0; refusal === undefined && i < 1000; i++) {
    const outcomes = new Outcomes()
    const text = `${i}`.padEnd(500, '.')
    try {
      appendText(journal, text, outcomes, i)
      await outcomes.settled(1)
      t.same(outcomes.committedTokens, [i])
      accepted.push(text)
    } catch (error) {
      refusal = error
    }
  }
  t.match(refusal, { code: 'journal_full' })
  t.same(states, ['slow', 'full'])
  t.ok(journal.diskBytes <= 40_000)
  t.throws(() => appendText(journal, 'small'), { code: 'journal_full' }, 'full is full for everything')
  const mark = await journal.mark() as SliceMark
  t.equal(mark.records, accepted.length, 'a mark is taken even now: without it nothing could be packed and released')
  t.same(textsOf(journal), accepted)
  await journal.releaseBefore(mark.from + 1)
  t.equal(journal.state, 'full', 'a release that frees nothing changes nothing')
  await journal.releaseBefore(mark.to)
  t.equal(journal.state, 'ok')
  t.ok(journal.diskBytes <= 4000 + 600, 'only the active segment is left')
  t.same(states, ['slow', 'full', 'ok'])
  await appendAll(journal, ['again'])
  t.equal(textsOf(journal, mark.to).at(-1), 'again')
  await journal.close()
})

void t.test('errors have codes of the table', async t => {
  const journal = await open(temporaryDirectory(t))
  await journal.close()
  try {
    appendText(journal, 'x')
    t.fail('must throw')
  } catch (error) {
    t.type(error, TwinfoldError)
  }
})
