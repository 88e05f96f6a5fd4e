import t from 'tap'
import { silentLog } from '../../src/core/log.js'
import { usPerHour, usPerMinute } from '../../src/core/reading.js'
import { lateMinutes } from '../../src/pipeline/late-buckets.js'
import { SlabMerger, type SlabMergerOptions } from '../../src/pipeline/slab-merger.js'
import type { MergeResult, MergeTask } from '../../workers/protocol.js'

const nothing: MergeResult = { slabs: 0, chunkRows: 0, readings: 0, cpuMs: 0 }

/** A merger whose time stands still until it is told. */
function mergerWith (more: Partial<SlabMergerOptions> = {}) {
  const tasks: MergeTask[] = []
  const time = { ms: 0 }
  let fails = 0
  const merger = new SlabMerger({
    journalId: 'aa',
    pool: {
      merge: async task => {
        tasks.push(task)
        if (fails-- > 0) throw new Error('no')
        return nothing
      }
    },
    busy: () => false,
    clock: { nowUs: () => 1e15 + time.ms * 1000, monotonicMs: () => time.ms },
    log: silentLog,
    afterMs: 60_000,
    intervalMs: 120_000,
    lateAfterMs: 15,
    slabsPerTaskMax: 10,
    ...more
  })
  const turn = async (ms: number): Promise<MergeTask[]> => {
    time.ms = ms
    await new Promise(resolve => { setTimeout(resolve, 30) })
    return tasks.splice(0)
  }
  return { merger, turn, fail: (times: number) => { fails = times } }
}

void t.test('late slabs are merged soon, they alone, and only those accepted since', async t => {
  const { merger, turn, fail } = mergerWith()
  merger.notePacked(100)
  merger.open()
  t.teardown(async () => { await merger.close() })
  t.same(await turn(10), [], 'gathered')
  t.match(await turn(20), [{ before: 101, late: { sinceStamp: 0, beforeMinute: lateMinutes(1e15 + 20_000) } }], 'what an earlier run left')
  t.same(await turn(50_000), [], 'nothing late came')
  merger.noteLate({ stamp: 500, mark: 150 })
  merger.noteLate({ stamp: 400, mark: 120 })
  t.same(await turn(51_000), [], 'slices in front of it are not packed yet')
  merger.notePacked(160)
  fail(1)
  t.match(await turn(51_001), [{ before: 161, late: { sinceStamp: 400 } }, { before: 161, late: { sinceStamp: 400 } }], 'a merge that fails is repeated')
  t.same(await turn(51_100), [])
  t.equal(merger.stats.failures, 1)
})

void t.test('readings are late that are old, or of an hour that is over; what was late stays so', async t => {
  const hour = 400_000 * usPerHour
  t.equal(lateMinutes(hour + 40 * usPerMinute), hour + 25 * usPerMinute)
  t.equal(lateMinutes(hour + 10 * usPerMinute), hour)
  t.equal(lateMinutes(hour + usPerMinute), hour - usPerMinute)
  let last = 0
  for (let minute = 0; minute < 180; minute += 0.25) {
    const before = lateMinutes(hour + minute * usPerMinute)
    t.ok(before >= last)
    last = before
  }
})
