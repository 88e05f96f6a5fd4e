/** What every implementation of the tier port keeps (src/store/tier-store.ts), and what a seal promises to readers at each of its steps. */
import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import type { Bucket } from '../../src/series/partition-plan.js'
import type { DeviceRange, Generation, RawStore, RetentionClass, SealedWrite } from '../../src/store/raw-store.js'
import { tierKinds, type FoundTierRow, type TierKind, type TierRow, type TierStore } from '../../src/store/tier-store.js'
import { chunkOf, day0, gather, newSeed, newTenantId, randomFrom, refOf, sliceOf, writeOf, type OpenStore } from './store-fixtures.js'

type Row = TierRow & RetentionClass
export interface Tiered { readonly raw: RawStore, readonly tiers: TierStore }
/** A store that waits before every one of its writes, in one order. */
export type OpenStepped = (beforeWrite: () => Promise<void>) => Promise<Tiered>

const classes = [365, 30, 1825]
const day: Bucket = { start: day0, widthMinutes: 1440 }
/** All that these tests write: a scan of all times would look at thousands of partitions. */
const since = day0 - 30 * usPerDay
const until = day0 + 5 * 360 * usPerDay

function rowOf (text: string, more: Partial<Row> = {}): Row {
  return { kind: '1h', start: day0, bucket: day, asOf: 7, bytes: Buffer.from(text), retentionDays: 365, ...more }
}

/** A row of every kind and period of the bucket. */
function rowsOf (text: string, bucket: Bucket, retentionDays = 365): Row[] {
  const endTs = bucket.start + bucket.widthMinutes * usPerMinute
  return tierKinds.flatMap(kind => {
    const period = kind === '1m' ? usPerHour : usPerDay
    const rows: Row[] = []
    for (let start = Math.floor(bucket.start / period) * period; start < endTs; start += period) rows.push(rowOf(`${text} ${kind} ${(start - day0) / period}`, { kind, start, bucket, retentionDays }))
    return rows
  })
}

function sealOf (sequence: number, tiers: readonly Row[], more: Partial<SealedWrite> = {}): SealedWrite {
  return { generation: { epoch: 1, sequence }, covered: [], chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from(`${sequence}`) }], tiers, ...more }
}

async function textsOf (tiers: TierStore, tenant: string, kind: TierKind, from = since, to = until, retentionDays = classes): Promise<string[]> {
  return (await gather(tiers.scanTiers({ tenant, device: 'd', retentionDays }, kind, from, to))).map(row => Buffer.from(row.bytes).toString())
}

/** Rows of a range; both ways of reading them must agree. */
async function rowsIn (tiers: TierStore, range: DeviceRange, kind: TierKind, from: number, to: number): Promise<readonly FoundTierRow[]> {
  const rows = await tiers.readTiers(range, kind, from, to)
  if (!isDeepStrictEqual(rows, await gather(tiers.scanTiers(range, kind, from, to)))) throw new Error(`${kind} ${from} to ${to}: a scan finds other rows`)
  return rows
}

export function tierStoreContract (t: Test, open: OpenStore): void {
  void t.test('tiers: rows come back as written, ascending by start, those in the range alone', async t => {
    const { raw, tiers } = await open()
    const tenant = newTenantId()
    const month: Bucket = { start: day0, widthMinutes: 43_200 }
    const rows = rowsOf('x', month)
    await raw.writeSealed(refOf(tenant, 'd', { bucket: month }), { retentionDays: 365 }, sealOf(1, [...rows].reverse()))
    for (const kind of tierKinds) {
      const ofKind = rows.filter(row => row.kind === kind)
      const period = kind === '1m' ? usPerHour : usPerDay
      for (const [from, to] of [[since, until], [day0, day0], [day0 + period, day0 + 3 * period], [day0 + 1, day0 + period + 1], [day0 + 29 * usPerDay, until]]) {
        const found = await rowsIn(tiers, { tenant, device: 'd', retentionDays: [365] }, kind, from, to)
        const expected = ofKind.filter(({ start }) => start >= from && start < to)
        t.ok(found.every(({ sequence }) => sequence === 1), 'each names its seal')
        t.strictSame(found.map(({ bytes, sequence: _sequence, ...row }) => ({ ...row, text: Buffer.from(bytes).toString() })),
          expected.map(({ bytes, retentionDays: _class, ...row }) => ({ ...row, text: Buffer.from(bytes).toString() })), `${kind} ${from - day0} to ${to - day0}`)
      }
    }
  })

  void t.test('tiers: years of days come in order over all partitions and windows', async t => {
    const { raw, tiers } = await open()
    const tenant = newTenantId()
    const days = Array.from({ length: 60 }, (_, i) => day0 + i * 23 * usPerDay)
    for (const start of [...days].reverse()) {
      const bucket: Bucket = { start, widthMinutes: 1440 }
      await raw.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays: 365 }, sealOf(1, [rowOf(`${start}`, { kind: '1d', start, bucket, retentionDays: 3650 }), rowOf('no', { kind: 'q1d', start, bucket, retentionDays: 3650 })]))
    }
    t.strictSame(await textsOf(tiers, tenant, '1d', since, until, [3650]), days.map(String))
    t.strictSame(await textsOf(tiers, tenant, '1d', -Infinity, Infinity, [3650]), days.map(String), 'and over all times')
    t.strictSame(await textsOf(tiers, tenant, '1d', days[7] + 1, days[40], [3650]), days.slice(8, 40).map(String))
  })

  void t.test('tiers: buckets of one day each have their rows, and a seal of one leaves the others alone', async t => {
    const { raw, tiers } = await open()
    const tenant = newTenantId()
    const buckets: Bucket[] = [day, ...[0, 1, 23].map((hour): Bucket => ({ start: day0 + hour * usPerHour, widthMinutes: 60 })), { start: day0, widthMinutes: 1 }, { start: day0, widthMinutes: 43_200 }]
    const name = ({ start, widthMinutes }: Bucket): string => `${widthMinutes}@${(start - day0) / usPerHour}`
    for (const bucket of buckets) await raw.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays: 365 }, sealOf(1, [rowOf(name(bucket), { bucket, kind: '1d' })]))
    const sorted = [...buckets].sort((a, b) => a.widthMinutes - b.widthMinutes || a.start - b.start).map(name)
    t.strictSame(await textsOf(tiers, tenant, '1d'), sorted)
    await raw.writeSealed(refOf(tenant, 'd', { bucket: buckets[2] }), { retentionDays: 365 }, sealOf(2, []))
    t.strictSame(await textsOf(tiers, tenant, '1d'), sorted.filter(text => text !== name(buckets[2])), 'and one without a row any more has none')
  })

  void t.test('tiers: the highest generation is seen whatever comes later, and nothing of lower ones', async t => {
    const { raw, tiers } = await open()
    const seed = newSeed()
    const random = randomFrom(seed)
    for (let round = 0; round < 4; round++) {
      const tenant = newTenantId()
      const ref = refOf(tenant, 'd', { retentionDays: classes })
      let highest: Generation = { epoch: 0, sequence: 0 }
      let expected: string[] = []
      for (let i = 0; i < 12; i++) {
        const generation = { epoch: Math.floor(random() * 3), sequence: Math.floor(random() * 1e15) }
        const retentionDays = classes[Math.floor(random() * 3)]
        const rows = rowsOf(`g${i}`, day, retentionDays).filter(() => random() < 0.7)
        await raw.writeSealed(ref, { retentionDays: classes[Math.floor(random() * 3)] }, sealOf(0, rows, { generation }))
        if (generation.epoch > highest.epoch || (generation.epoch === highest.epoch && generation.sequence > highest.sequence)) {
          highest = generation
          expected = rows.filter(row => row.kind === '1m').map(row => Buffer.from(row.bytes).toString())
        }
        t.strictSame(await textsOf(tiers, tenant, '1m'), expected, `seed ${seed}, ${round}.${i}`)
        t.strictSame((await raw.readSealed(ref))?.generation, highest)
      }
    }
  })

  void t.test('tiers: rows that move to another class are seen once, under the classes asked for alone', async t => {
    const { raw, tiers } = await open()
    const tenant = newTenantId()
    const ref = refOf(tenant, 'd', { retentionDays: classes })
    await raw.writeSealed(ref, { retentionDays: 365 }, sealOf(1, rowsOf('old', day, 365)))
    await raw.writeSealed(ref, { retentionDays: 30 }, sealOf(2, rowsOf('new', day, 30)))
    for (const kind of tierKinds) {
      const texts = await textsOf(tiers, tenant, kind)
      t.ok(texts.length > 0 && texts.every(text => text.startsWith('new')), kind)
      t.equal((await textsOf(tiers, tenant, kind, since, until, [30])).length, texts.length)
    }
    await raw.writeSealed(ref, { retentionDays: 1825 }, sealOf(3, rowsOf('newest', day, 1825)))
    t.strictSame(await textsOf(tiers, tenant, '1d'), ['newest 1d 0'])
  })

  void t.test('tiers: no read returns rows of another tenant, device or kind (INVARIANTS 7)', async t => {
    const { raw, tiers } = await open()
    const base = newTenantId()
    const tenants = [base, `${base}b`, `${base}-`]
    const devices = ['a', 'ab', 'a.', 'b']
    for (const tenant of tenants) {
      for (const device of devices) {
        await raw.writeSealed(refOf(tenant, device), { retentionDays: 365 }, sealOf(1, tierKinds.map(kind => rowOf(`${tenant} ${device} ${kind}`, { kind }))))
      }
    }
    await raw.writeSealed(refOf(tenants[0], 'a'), { retentionDays: 365 }, sealOf(2, []))
    for (const tenant of tenants) {
      for (const device of devices) {
        for (const kind of tierKinds) {
          const rows = await rowsIn(tiers, { tenant, device, retentionDays: [365] }, kind, since, until)
          t.strictSame(rows.map(row => Buffer.from(row.bytes).toString()), tenant === base && device === 'a' ? [] : [`${tenant} ${device} ${kind}`])
        }
      }
    }
  })

  void t.test('tiers: rows of any size come back', async t => {
    const { raw, tiers } = await open()
    const tenant = newTenantId()
    const random = randomFrom(5)
    const rows = rowsOf('', day).map((row, i) => ({ ...row, bytes: Buffer.from(Array.from({ length: i % 7 === 0 ? 120_000 : 3000 * (i % 5) }, () => Math.floor(random() * 256))) }))
    await raw.writeSealed(refOf(tenant, 'd'), { retentionDays: 365 }, sealOf(1, rows))
    for (const kind of tierKinds) {
      const found = await rowsIn(tiers, { tenant, device: 'd', retentionDays: [365] }, kind, since, until)
      t.ok(found.every((row, i) => Buffer.from(row.bytes).equals(rows.filter(row => row.kind === kind)[i].bytes)) && found.length === (kind === '1m' ? 24 : 1))
    }
  })
}

/** What a reader finds who looks as `readWindows` does: head, then tier rows, then sealed rows. */
async function look ({ raw, tiers }: Tiered, tenant: string): Promise<{ head: number[], tiers: string[], covered: number[], sealed: string }> {
  const spans = await raw.listHeadSpans({ tenant, device: 'd', retentionDays: classes }, day0, day0 + usPerDay)
  const rows = await textsOf(tiers, tenant, '1m')
  const sealed = await raw.readSealed(refOf(tenant, 'd', { salts: 2, retentionDays: classes }))
  return {
    head: [...new Set(spans.map(({ slice }) => slice.mark))].sort((a, b) => a - b),
    tiers: [...new Set(rows.map(text => text.slice(0, text.indexOf(' '))))],
    covered: sealed?.covered.map(({ mark }) => mark) ?? [],
    sealed: sealed === null ? '' : Buffer.from(sealed.chunks[0].bytes).toString()
  }
}

/** Slices 1 and 2 are sealed under generation 1, then 1 to 4 under 5; what `during` does comes before one write of that seal after the other. */
export function sealStepsContract (t: Test, openStepped: OpenStepped, open: () => Promise<Tiered>): void {
  const head = async (store: Tiered, tenant: string, marks: readonly number[]): Promise<void> => {
    await store.raw.writeHead(writeOf({ chunks: marks.map(mark => chunkOf(tenant, 'd', { slice: sliceOf(mark), salt: mark % 2, minTs: day0 + mark, maxTs: day0 + mark + 1 })) }))
  }
  const seal = async (store: Tiered, tenant: string, sequence: number, marks: readonly number[], rows: (row: Row) => boolean = () => true): Promise<void> => {
    await store.raw.writeSealed(refOf(tenant, 'd', { salts: 2, retentionDays: classes }), { retentionDays: sequence % 2 === 0 ? 30 : 365 }, sealOf(sequence, rowsOf(`${sequence}`, day, sequence % 2 === 0 ? 1825 : 365).filter(rows), { covered: marks.map(mark => sliceOf(mark)) }))
  }
  /** Runs the seal once for each of its writes. */
  const atEveryStep = async (t: Test, during: (tenant: string, plain: Tiered) => Promise<void>, after: (tenant: string, plain: Tiered, step: number) => Promise<void>): Promise<void> => {
    for (let step = 0; ; step++) {
      const tenant = newTenantId()
      const plain = await open()
      await head(plain, tenant, [1, 2])
      await seal(plain, tenant, 1, [1, 2])
      await head(plain, tenant, [3, 4])
      let write = 0
      const stepped = await openStepped(async () => { if (write++ === step) await during(tenant, plain) })
      const failed = await seal(stepped, tenant, 5, [1, 2, 3, 4]).then(() => false, (error: Error) => error.message === 'died here' || error)
      // Behind the last write nothing happened meanwhile.
      if (write <= step) {
        t.ok(step >= 3, `${step} steps`)
        return
      }
      if (typeof failed !== 'boolean') throw failed
      await after(tenant, plain, step)
    }
  }

  void t.test('seal: at every step a reader finds each slice in the head, or its generation whole', async t => {
    await atEveryStep(t, async (tenant, plain) => {
      const found = await look(plain, tenant)
      for (const mark of [3, 4]) {
        t.ok(found.head.includes(mark) || (found.covered.includes(mark) && found.sealed === '5' && found.tiers.join() === '5'), JSON.stringify(found))
      }
      t.ok(found.sealed === '1' || found.sealed === '5')
      t.ok(found.tiers.length > 0)
    }, async (tenant, plain) => {
      t.strictSame(await look(plain, tenant), { head: [], tiers: ['5'], covered: [1, 2, 3, 4], sealed: '5' })
    })
  })

  void t.test('seal: a chunk that comes late at any step stays in the head, and is named', async t => {
    await atEveryStep(t, async (tenant, plain) => { await head(plain, tenant, [7]) }, async (tenant, plain, step) => {
      t.match(await look(plain, tenant), { tiers: ['5'], sealed: '5' })
      const spans = await plain.raw.listHeadSpans({ tenant, device: 'd', retentionDays: classes }, day0, day0 + usPerDay)
      t.strictSame(spans.map(({ slice }) => slice.mark).filter(mark => mark !== 7), [], `step ${step}`)
      await seal(plain, tenant, 6, [7])
      t.match(await look(plain, tenant), { head: [], tiers: ['6'], sealed: '6' })
    })
  })

  void t.test('seal: one that dies at any step is made good by the next', async t => {
    await atEveryStep(t, async () => { throw new Error('died here') }, async (tenant, plain, step) => {
      const found = await look(plain, tenant)
      for (const mark of [3, 4]) t.ok(found.head.includes(mark) || found.covered.includes(mark), `step ${step}: ${mark}`)
      // Points of a whole hour were erased meanwhile: no row of it is left of either generation before.
      await seal(plain, tenant, 6, [1, 2, 3, 4], row => row.start !== day0 + usPerHour)
      t.strictSame(await look(plain, tenant), { head: [], tiers: ['6'], covered: [1, 2, 3, 4], sealed: '6' })
      t.equal((await textsOf(plain.tiers, tenant, '1m')).length, 23, `step ${step}`)
    })
  })

  void t.test('seal: a sealer that was paused at any step, while another took over, changes nothing any more', async t => {
    await atEveryStep(t, async (tenant, plain) => {
      await head(plain, tenant, [8])
      await seal(plain, tenant, 9, [3, 4, 8])
      await head(plain, tenant, [11])
    }, async (tenant, plain, step) => {
      const found = await look(plain, tenant)
      t.strictSame(found, { head: [11], tiers: ['9'], covered: [3, 4, 8], sealed: '9' }, `step ${step}`)
    })
  })
}
