import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerMinute } from '../../src/core/reading.js'
import { SlabMerge } from '../../src/pipeline/merge-slabs.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { readReadings } from '../../src/store/read-readings.js'
import { encodeSlab } from '../../src/series/codec.js'
import { openStore } from '../../src/store/open-store.js'
import type { HeadWrite } from '../../src/store/raw-store.js'

const journalId = '00000000000000aa'
const start = Math.floor(Date.UTC(2026, 5, 10, 11) * 1000 / usPerMinute) * usPerMinute

/** A slab of device d with readings at these microseconds of one minute. */
function slice (mark: number, shard: number, times: readonly number[]): HeadWrite {
  const bytes = encodeSlab([{ device: 'd', rows: times.length }], {
    ts: Float64Array.from(times, ts => start + ts),
    stamps: Float64Array.from(times, ts => start + ts),
    columns: [{ metric: 'm', type: 'number', rows: null, values: Float64Array.from(times) }]
  })
  return { chunks: [], seen: [{ tenant: 'x', device: 'd', day: Math.floor(start / 86400e6) * 86400e6, metrics: ['m'], retentionDays: 30 }], slabs: [{ tenant: 'x', shard, minute: start, slice: { journalId, mark }, bytes, retentionDays: 30 }] }
}

void t.test('a slice that is packed again after its merge takes nothing of what was merged with it', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-merge-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
  const merge = new SlabMerge({ store, plans: planLookup(store, { leaseMs: 1000, rememberedMax: 10 }), monotonicMs: () => 0, nowUs: systemClock.nowUs })
  const task = { kind: 'merge', journalId, before: 100, slabsMax: 10 } as const
  const read = async (): Promise<number[]> => {
    const times: number[] = []
    for await (const chunk of readReadings(store, { tenant: 'x', device: 'd', retentionDays: [30], oldestTs: 0, fromTs: 0, toTs: 9e15, order: 'asc', metrics: null })) times.push(...Array.from(chunk.ts, ts => ts - start))
    return times
  }
  // The merged chunk begins and ends where the second slice's alone would.
  await store.raw.writeHead(slice(10, 7, [2]))
  await store.raw.writeHead(slice(20, 7, [1, 3]))
  t.equal((await merge.merge(task)).slabs, 2)
  t.strictSame(await read(), [1, 2, 3])
  await store.raw.writeHead(slice(20, 7, [1, 3]))
  t.equal((await merge.merge(task)).slabs, 1)
  t.strictSame(await read(), [1, 2, 3])
})
