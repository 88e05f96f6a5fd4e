import t from 'tap'
import fc from 'fast-check'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import {
  adaptPlan, bucketOf, bucketsIn, defaultPlan, partitionBytesTarget, planLeaseUs, saltFor, saltsToRead, widthAt, widthChangeAheadUs, type PartitionPlan
} from '../../src/series/partition-plan.js'

const now = Date.UTC(2026, 5, 1, 12) * 1000

t.test('a reader asks the bucket that a writer used, over any history of widths', async t => {
  const widths = fc.array(fc.record({ at: fc.integer({ min: 1, max: 40_000 }), width: fc.constantFrom(1, 60, 1440, 43_200) }), { maxLength: 6 })
  fc.assert(fc.property(widths, fc.integer({ min: 0, max: 40 * 1440 }), fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 3000 }), (changes, minute, before, after) => {
    const sorted = [...changes].sort((a, b) => a.at - b.at)
    const plan: PartitionPlan = {
      widths: [{ fromTs: 0, widthMinutes: 1440 }, ...sorted.map(({ at, width }) => ({ fromTs: at * usPerMinute, widthMinutes: width as 1 }))],
      salts: defaultPlan.salts
    }
    const ts = minute * usPerMinute + 1
    const written = bucketOf(plan, ts)
    return bucketsIn(plan, ts - before * usPerMinute, ts + after * usPerMinute + 1)
      .some(bucket => bucket.start === written.start && bucket.widthMinutes === written.widthMinutes)
  }), { verbose: 1 })
  t.pass('held for all histories')
})

t.test('a change of width is never nearer than twice the allowed future', async t => {
  fc.assert(fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), fc.double({ min: 0, max: 1e6, noNaN: true }), (bytesPerSecond, rowsPerSecond) => {
    const next = adaptPlan(defaultPlan, { bytesPerSecond, rowsPerSecond }, now)
    if (next === null) return true
    const added = next.widths.slice(1)
    return added.every(entry => entry.fromTs >= now + widthChangeAheadUs && entry.fromTs % (entry.widthMinutes * usPerMinute) === 0) &&
      widthAt(next, now) === widthAt(defaultPlan, now) && saltsToRead(next) >= saltsToRead(defaultPlan)
  }), { verbose: 1 })
  t.pass('held for all loads')
})

t.test('a hot device gets narrower buckets, then salts, and no partition passes the target', async t => {
  const warm = adaptPlan(defaultPlan, { bytesPerSecond: partitionBytesTarget / 3600 / 2, rowsPerSecond: 1 }, now)
  t.equal(warm?.widths.at(-1)?.widthMinutes, 60)
  t.equal(saltsToRead(warm as PartitionPlan), 1)
  const hot = adaptPlan(defaultPlan, { bytesPerSecond: 50 * partitionBytesTarget / 3600, rowsPerSecond: 10 }, now) as PartitionPlan
  t.equal(hot.widths.at(-1)?.widthMinutes, 60, 'an hour on many salts is fewer partitions than 60 minutes')
  t.ok(saltsToRead(hot) >= 50)
  const hottest = adaptPlan(defaultPlan, { bytesPerSecond: 10 * partitionBytesTarget / 60, rowsPerSecond: 10 }, now) as PartitionPlan
  t.equal(hottest.widths.at(-1)?.widthMinutes, 1)
  t.equal(saltsToRead(hottest), 64)
  const calm = adaptPlan(hot, { bytesPerSecond: 0.1, rowsPerSecond: 0.001 }, now + usPerHour)
  t.equal(saltsToRead(calm as PartitionPlan), saltsToRead(hot), 'salts never shrink')
  t.equal(calm?.widths.at(-1)?.widthMinutes, 43_200, 'an idle device gets the widest buckets')
  t.equal((calm?.widths.at(-1)?.fromTs ?? 1) % usPerDay, 0)
})

t.test('writers use new salts after two leases, readers at once, and a slice keeps its salt', async t => {
  const plan: PartitionPlan = { ...defaultPlan, salts: [...defaultPlan.salts, { fromStamp: now + 2 * planLeaseUs, salts: 10 }] }
  const slice = { journalId: '00000000000000ff', mark: 12345 }
  t.equal(saltFor(plan, slice, now + planLeaseUs), 0)
  t.equal(saltsToRead(plan), 10)
  const used = new Set<number>()
  for (let mark = 0; mark < 1000; mark++) used.add(saltFor(plan, { journalId: 'a', mark }, now + 3 * planLeaseUs))
  t.equal(used.size, 10, 'all salts are used')
  t.equal(saltFor(plan, slice, now + usPerHour), saltFor(plan, slice, now + 2 * usPerHour), 'a repeated slice goes to the same partition')
})

t.test('until a narrower width begins, the salts hold what the present bucket gets', async t => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  fc.assert(fc.property(fc.double({ min: 1, max: 200_000, noNaN: true }), fc.integer({ min: 0, max: 86_400 }), (bytesPerSecond, second) => {
    const at = now + second * 1e6
    const plan = adaptPlan(defaultPlan, { bytesPerSecond, rowsPerSecond: 0.1 }, at) ?? defaultPlan
    const untilTs = plan.widths[1]?.fromTs ?? at + usPerDay
    const seconds = Math.min(usPerDay, untilTs - at) / 1e6
    return bytesPerSecond * seconds / saltsToRead(plan) <= 2.5 * partitionBytesTarget
  }), { seed, verbose: 1 })
  t.pass(`seed ${seed}`)
})

t.test('a plan that fits is left alone', async t => {
  t.equal(adaptPlan(defaultPlan, { bytesPerSecond: partitionBytesTarget / 86400 / 2, rowsPerSecond: 0.01 }, now), null)
})
