import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { segmentFileName } from '../../src/journal/filenames.js'
import { markRecordBytes } from '../../src/journal/mark-record.js'
import { recordHeaderBytes } from '../../src/journal/record.js'
import { segmentHeaderBytes } from '../../src/journal/segment-header.js'
import { appendAll, appendText, identity, open, readBack, segmentPaths, temporaryDirectory, textsOf } from './journal-support.js'

/**
 * The journal that is damaged: three segments. The first two were closed by a restart and hold ten records each and a
 * mark after the fifth; the last is the torn-off one with ten records and no mark. Every body has 100 bytes.
 */
const bodyBytes = 100
const recordBytes = recordHeaderBytes + identity.length + bodyBytes
const markBytes = markRecordBytes
/** Offset in a segment of its record number `i`; the first two segments have a mark behind the fifth record. */
const offsetOf = (i: number, marked: boolean): number => segmentHeaderBytes + i * recordBytes + (marked && i >= 5 ? markBytes : 0)

async function makeJournal (directory: string): Promise<void> {
  for (let segment = 0; segment < 3; segment++) {
    const journal = await open(directory)
    for (let i = 0; i < 10; i++) {
      await appendAll(journal, [`${segment}:${i}`.padEnd(bodyBytes, '.')])
      if (i === 4 && segment < 2) await journal.mark()
    }
    await journal.close()
  }
}

interface Row {
  readonly what: string
  readonly damage: (paths: string[], directory: string) => void
  /** Records that do not survive, as `segment:number`. */
  readonly lost: readonly string[]
  /** Ranges that are reported: [segment whose file is named, bytes]. */
  readonly reported: readonly (readonly [number, number])[]
  readonly tailCut: number
  /** Slices that are closed by a mark; 2 unless marks suffer. */
  readonly marks?: number
}

function change (path: string, edit: (bytes: Buffer) => Buffer | void): void {
  const bytes = readFileSync(path)
  writeFileSync(path, edit(bytes) ?? bytes)
}
const flip = (segment: number, offset: number) => (paths: string[]): void => {
  change(paths[segment], bytes => { bytes[offset] ^= 0x10 })
}
const numbers = (segment: number, from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => `${segment}:${from + i}`)

const rows: Row[] = [
  { what: 'nothing', damage: () => {}, lost: [], reported: [], tailCut: 0 },
  { what: 'header magic of a middle segment', damage: flip(1, 0), lost: [], reported: [[1, 64]], tailCut: 0 },
  { what: 'header version of a middle segment (its checksum tells it from a newer one)', damage: flip(1, 8), lost: [], reported: [[1, 64]], tailCut: 0 },
  { what: 'header checksum of the first segment', damage: flip(0, 60), lost: [], reported: [[0, 64]], tailCut: 0 },
  { what: 'header journal id of the last segment', damage: flip(2, 16), lost: [], reported: [[2, 64]], tailCut: 0 },
  { what: 'record length', damage: flip(0, offsetOf(2, true) + 4), lost: ['0:2'], reported: [[0, recordBytes]], tailCut: 0 },
  { what: 'record length check bits', damage: flip(0, offsetOf(2, true) + 7), lost: ['0:2'], reported: [[0, recordBytes]], tailCut: 0 },
  { what: 'record checksum', damage: flip(1, offsetOf(9, true)), lost: ['1:9'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record kind', damage: flip(1, offsetOf(0, true) + 8), lost: ['1:0'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record flags', damage: flip(1, offsetOf(0, true) + 9), lost: ['1:0'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record identity length', damage: flip(1, offsetOf(6, true) + 10), lost: ['1:6'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record messages', damage: flip(1, offsetOf(6, true) + 12), lost: ['1:6'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record stamp', damage: flip(1, offsetOf(6, true) + 20), lost: ['1:6'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record identity', damage: flip(1, offsetOf(6, true) + recordHeaderBytes + 3), lost: ['1:6'], reported: [[1, recordBytes]], tailCut: 0 },
  { what: 'record body, first byte', damage: flip(0, offsetOf(5, true) + recordHeaderBytes + identity.length), lost: ['0:5'], reported: [[0, recordBytes]], tailCut: 0 },
  { what: 'record body, last byte', damage: flip(0, offsetOf(10, true) - 1), lost: ['0:9'], reported: [[0, recordBytes]], tailCut: 0 },
  { what: 'a mark: its slice is rebuilt from the next mark', damage: flip(0, offsetOf(5, true) - 1), lost: [], reported: [[0, markBytes]], tailCut: 0 },
  { what: 'the last mark: its records belong to the open slice again', damage: flip(1, offsetOf(5, true) - 1), lost: [], reported: [[1, markBytes]], tailCut: 0, marks: 1 },
  { what: 'a zeroed block over three records', damage: paths => { change(paths[0], bytes => { bytes.fill(0, offsetOf(1, true) + 3, offsetOf(3, true) + 3) }) }, lost: numbers(0, 1, 4), reported: [[0, 3 * recordBytes]], tailCut: 0 },
  { what: 'two places of one segment', damage: paths => { flip(0, offsetOf(1, true) + 30)(paths); flip(0, offsetOf(8, true) + 30)(paths) }, lost: ['0:1', '0:8'], reported: [[0, recordBytes], [0, recordBytes]], tailCut: 0 },
  {
    what: 'a record copied over another of the same length (same segment, other offset)',
    damage: paths => { change(paths[0], bytes => { bytes.copyWithin(offsetOf(3, true), offsetOf(1, true), offsetOf(2, true)) }) },
    lost: ['0:3'],
    reported: [[0, recordBytes]],
    tailCut: 0
  },
  {
    what: 'a record copied from another segment to the same offset',
    damage: paths => { const other = readFileSync(paths[1]); change(paths[0], bytes => { other.copy(bytes, offsetOf(3, true), offsetOf(3, true), offsetOf(4, true)) }) },
    lost: ['0:3'],
    reported: [[0, recordBytes]],
    tailCut: 0
  },
  { what: 'truncated middle segment', damage: paths => { truncateSync(paths[1], offsetOf(7, true) + 50) }, lost: numbers(1, 7, 10), reported: [[1, 50], [-1, 3 * recordBytes - 50]], tailCut: 0 },
  { what: 'garbage behind a middle segment (a failed write that could not be cut): no part of the journal', damage: paths => { change(paths[0], bytes => Buffer.concat([bytes, Buffer.alloc(500, 7)])) }, lost: [], reported: [], tailCut: 0 },
  { what: 'missing segment', damage: paths => { rmSync(paths[1]) }, lost: numbers(1, 0, 10), reported: [[1, segmentHeaderBytes + 10 * recordBytes + markBytes]], tailCut: 0, marks: 1 },
  { what: 'a middle segment full of zeros', damage: paths => { change(paths[1], bytes => { bytes.fill(0) }) }, lost: numbers(1, 0, 10), reported: [[1, segmentHeaderBytes + 10 * recordBytes + markBytes]], tailCut: 0, marks: 1 },
  {
    what: 'a copy of a segment under another base: never read twice',
    damage: (paths, directory) => { const name = (paths[1].split('/').at(-1) as string).slice(0, 16); copyFileSync(paths[1], join(directory, segmentFileName(name, 5_000_000))) },
    lost: [],
    reported: [[3, segmentHeaderBytes + 10 * recordBytes + markBytes]],
    tailCut: 0
  },
  { what: 'last record cut short', damage: paths => { truncateSync(paths[2], offsetOf(9, false) + 60) }, lost: ['2:9'], reported: [], tailCut: 60 },
  { what: 'last record cut to less than its header', damage: paths => { truncateSync(paths[2], offsetOf(9, false) + 5) }, lost: ['2:9'], reported: [], tailCut: 5 },
  { what: 'last record cut off exactly', damage: paths => { truncateSync(paths[2], offsetOf(9, false)) }, lost: ['2:9'], reported: [], tailCut: 0 },
  { what: 'garbage behind the last record', damage: paths => { change(paths[2], bytes => Buffer.concat([bytes, Buffer.alloc(777, 0xee)])) }, lost: [], reported: [], tailCut: 777 },
  { what: 'zeros behind the last record', damage: paths => { change(paths[2], bytes => Buffer.concat([bytes, Buffer.alloc(4096)])) }, lost: [], reported: [], tailCut: 4096 },
  { what: 'the last three records damaged, nothing valid behind them: torn tail', damage: paths => { change(paths[2], bytes => { for (const i of [7, 8, 9]) bytes[offsetOf(i, false) + 40] ^= 1 }) }, lost: numbers(2, 7, 10), reported: [], tailCut: 3 * recordBytes },
  { what: 'a record of the last segment damaged with valid ones behind it: not a torn tail', damage: flip(2, offsetOf(7, false) + 40), lost: ['2:7'], reported: [[2, recordBytes]], tailCut: 0 },
  { what: 'the last segment cut inside its header', damage: paths => { truncateSync(paths[2], 40) }, lost: numbers(2, 0, 10), reported: [], tailCut: 40 },
  { what: 'the last segment empty', damage: paths => { truncateSync(paths[2], 0) }, lost: numbers(2, 0, 10), reported: [], tailCut: 0 },
  { what: 'a foreign file', damage: (_, directory) => { writeFileSync(join(directory, 'notes.txt'), 'hello') }, lost: [], reported: [], tailCut: 0 }
]

for (const row of rows) {
  void t.test(`damage: ${row.what}; ${30 - row.lost.length} of 30 records survive`, async t => {
    const directory = temporaryDirectory(t)
    await makeJournal(directory)
    row.damage(segmentPaths(directory), directory)
    const paths = segmentPaths(directory)
    const journal = await open(directory)
    const lost = new Set(row.lost)
    const expected = [0, 1, 2].flatMap(segment => numbers(segment, 0, 10)).filter(name => !lost.has(name))
    t.same(textsOf(journal).map(text => text.replace(/\.+$/, '')), expected, 'exactly these are read, in order')
    t.equal(journal.recovered.records, expected.length)
    t.equal(journal.recovered.tailCut, row.tailCut)
    t.same(journal.recovered.damaged.map(({ bytes }) => bytes), row.reported.map(([, bytes]) => bytes))
    row.reported.forEach(([segment], i) => {
      if (segment >= 0 && row.what !== 'missing segment') t.equal(journal.recovered.damaged[i].path, paths[segment])
    })
    t.equal(journal.recovered.marks.length, row.marks ?? 2)
    const inSlices = journal.recovered.marks.flatMap(mark => readBack(journal, mark.from, mark.to).records)
    const inTail = readBack(journal, journal.recovered.nextFrom).records
    t.same([...inSlices, ...inTail].map(({ text }) => text.replace(/\.+$/, '')), expected, 'every record is in exactly one slice or in the tail')
    await appendAll(journal, ['after'])
    await journal.close()
    const again = await open(directory)
    t.equal(again.recovered.records, expected.length + 1, 'what is appended after the recovery is behind the rest')
    t.equal(textsOf(again).at(-1), 'after')
    t.equal(again.recovered.tailCut, 0, 'the cut is made once')
    await again.close()
  })
}

void t.test('a body that holds valid-looking records is never taken for them, even where its own record is damaged', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  await appendAll(journal, ['inner'])
  const bytes = readFileSync(segmentPaths(directory)[0])
  const inner = bytes.subarray(segmentHeaderBytes)
  appendText(journal, inner.toString('latin1').repeat(5))
  await appendAll(journal, ['last'])
  await journal.close()
  change(segmentPaths(directory)[0], whole => { whole[segmentHeaderBytes + inner.length + 8] ^= 1 })
  const again = await open(directory)
  t.same(textsOf(again), ['inner', 'last'])
  t.equal(again.recovered.damaged.length, 1)
  await again.close()
})

void t.test('a worker reports damage of its slice and reads the rest, also when a segment is gone', async t => {
  const directory = temporaryDirectory(t)
  const journal = await open(directory)
  await appendAll(journal, ['a'.repeat(50), 'b'.repeat(50), 'c'.repeat(50)])
  const mark = await journal.mark()
  const [path] = segmentPaths(directory)
  flip(0, segmentHeaderBytes + 24 + identity.length + 50 + 30)([path])
  const read = readBack(journal, mark?.from, mark?.to)
  t.same(read.records.map(({ text }) => text[0]), ['a', 'c'])
  t.same(read.damages, [{ position: 64 + 74 + identity.length, bytes: 74 + identity.length }])
  rmSync(path)
  const gone = readBack(journal, mark?.from, mark?.to)
  t.same(gone.records, [])
  t.same(gone.damages, [{ position: 64, bytes: (mark?.to ?? 0) - 64 }])
  await journal.close()
})
