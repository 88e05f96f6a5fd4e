/** Reads of slabs: those of one shard for a query, and the oldest of all for the merger. */
import type { SliceId } from '../../core/reading.js'
import { timestampUsMax } from '../../core/limits.js'
import { usPerMinute } from '../../core/reading.js'
import type { LateSlabs, RetentionClass, SlabRow } from '../raw-store.js'
import { mergeOrdered } from '../merge-ordered.js'
import type { DatabasePool } from './database-pool.js'
import { metaName, rawPath } from './filenames.js'
import { after, rangeOf } from './key-bytes.js'
import { pendingKey, pendingPrefix, pendingTable, readPendingKey, readSlabKey, slabMinutes, slabPeriod, slabPeriodPrefix, slabPeriodUs } from './keys.js'
import { del, emptyValue, put, type Database } from './level.js'
import { readFrom } from './raw-read.js'
import { scanKeys, scanRows } from './scan.js'
import { rawWindowStart } from './windows.js'

interface PendingPeriod extends RetentionClass { readonly period: number }

const lastMinute = Math.floor(timestampUsMax / usPerMinute) * usPerMinute
/** Slabs whose values are read at once for the merger. */
const slabsPerReadMax = 64
/** Pending rows that are removed at once; further ones wait for the next merge. */
const pendingRemovedMax = 10_000

/** Periods that have slabs, of one class in a range or of all, ascending by class and period; one look per period. */
async function pendingPeriods (pool: DatabasePool, within?: { retentionDays: number, fromPeriod: number, toPeriod: number }): Promise<PendingPeriod[]> {
  const range = within === undefined
    ? rangeOf(pendingTable)
    : { gte: pendingPrefix(within.retentionDays, within.fromPeriod), lt: after(pendingPrefix(within.retentionDays, within.toPeriod)) }
  return await pool.read(metaName, [], async database => {
    const periods: PendingPeriod[] = []
    const iterator = database.keys(range)
    try {
      for (;;) {
        const key = await iterator.next() as Buffer | undefined
        if (key === undefined) return periods
        const { retentionDays, period } = readPendingKey(key)
        periods.push({ retentionDays, period })
        const next = after(pendingPrefix(retentionDays, period))
        if (next.compare(range.lt) >= 0) return periods
        iterator.seek(next)
      }
    } finally {
      await iterator.close()
    }
  })
}

function pathOf ({ retentionDays, period }: PendingPeriod): string {
  return rawPath(retentionDays, rawWindowStart(retentionDays, period))
}

export async function * scanSlabs (pool: DatabasePool, tenant: string, shard: number, retentionDays: readonly number[], fromMinute: number, toMinute: number): AsyncGenerator<SlabRow> {
  fromMinute = Math.max(0, fromMinute)
  toMinute = Math.min(toMinute, lastMinute)
  if (fromMinute > toMinute) return
  const fromPeriod = slabPeriod(fromMinute)
  const toPeriod = slabPeriod(toMinute)
  const sources: AsyncIterable<SlabRow>[] = []
  for (const days of new Set(retentionDays)) {
    const periods = await pendingPeriods(pool, { retentionDays: days, fromPeriod, toPeriod })
    if (periods.length > 0) sources.push(slabsOfPeriods(pool, tenant, shard, periods.reverse(), fromMinute, toMinute))
  }
  if (sources.length > 0) yield * mergeOrdered(sources, (a, b) => a.minute > b.minute)
}

async function * slabsOfPeriods (pool: DatabasePool, tenant: string, shard: number, periods: readonly PendingPeriod[], fromMinute: number, toMinute: number): AsyncGenerator<SlabRow> {
  for (const at of periods) {
    const from = Math.max(fromMinute, at.period)
    const to = Math.min(toMinute, at.period + slabPeriodUs - usPerMinute)
    const range = { ...slabMinutes(tenant, shard, from, to), reverse: true }
    for await (const rows of readFrom(pool, pathOf(at), database => scanRows(database, range))) {
      for (const [key, bytes] of rows) yield { ...readSlabKey(key), bytes }
    }
  }
}

export async function * scanSlabsToMerge (pool: DatabasePool, before: SliceId, limit: number, late?: LateSlabs): AsyncGenerator<SlabRow & RetentionClass> {
  const periods = await pendingPeriods(pool)
  const beforeMinute = late?.beforeMinute ?? Infinity
  let left = limit
  for (const at of periods.sort((a, b) => a.period - b.period)) {
    if (left <= 0 || at.period >= beforeMinute) return
    const done = late === undefined ? await doneMarks(pool, at, before) : []
    const keys = await slabKeysBefore(pool, at, before, left, beforeMinute)
    if (keys.length === 0) {
      if (late === undefined) await forget(pool, at, before, done)
      continue
    }
    left -= keys.length
    for (let i = 0; i < keys.length; i += slabsPerReadMax) {
      const some = keys.slice(i, i + slabsPerReadMax)
      const values = await pool.read(pathOf(at), [], async database => await database.getMany(some) as (Buffer | undefined)[])
      for (let j = 0; j < values.length; j++) {
        const bytes = values[j]
        if (bytes !== undefined) yield { ...readSlabKey(some[j]), bytes, retentionDays: at.retentionDays }
      }
    }
  }
}

function isBefore (slice: SliceId, before: SliceId): boolean {
  return (before.journalId === '' || slice.journalId === before.journalId) && slice.mark < before.mark
}

/** Keys of the period's slabs that are old enough, in the order of tenant, shard and minute. */
async function slabKeysBefore (pool: DatabasePool, at: PendingPeriod, before: SliceId, limit: number, beforeMinute = Infinity): Promise<Buffer[]> {
  return await pool.read(pathOf(at), [], async database => {
    const found: Buffer[] = []
    for await (const keys of scanKeys(database, rangeOf(slabPeriodPrefix(at.period)))) {
      for (const key of keys) {
        const { slice, minute } = readSlabKey(key)
        if (minute >= beforeMinute || !isBefore(slice, before)) continue
        found.push(key)
        if (found.length === limit) return found
      }
    }
    return found
  })
}

/** Pending rows of slices that are old enough. */
async function doneMarks (pool: DatabasePool, at: PendingPeriod, before: SliceId): Promise<Buffer[]> {
  return await pool.read(metaName, [], async database => await marksBefore(database, at, before))
}

async function marksBefore (database: Database, at: PendingPeriod, before: SliceId): Promise<Buffer[]> {
  const found: Buffer[] = []
  const { retentionDays, period } = at
  const range = before.journalId === ''
    ? rangeOf(pendingPrefix(retentionDays, period))
    : { gte: pendingKey(retentionDays, period, { journalId: before.journalId, mark: 0 }), lt: after(pendingKey(retentionDays, period, { journalId: before.journalId, mark: Math.min(before.mark, Number.MAX_SAFE_INTEGER) })) }
  for await (const keys of scanKeys(database, range)) {
    for (const key of keys) if (isBefore(readPendingKey(key).slice, before)) found.push(key)
    if (found.length >= pendingRemovedMax) break
  }
  return found
}

/**
 * The period has no slabs of these slices any more. Should one of the slices be packed again at this very moment, either the
 * second look here finds its slab, or its writer finds its pending row gone and puts it again.
 */
async function forget (pool: DatabasePool, at: PendingPeriod, before: SliceId, pending: readonly Buffer[]): Promise<void> {
  if (pending.length === 0) return
  await pool.write(metaName, pending.map(key => del(key)))
  const [found] = await slabKeysBefore(pool, at, before, 1)
  if (found !== undefined) await pool.write(metaName, [put(pendingKey(at.retentionDays, at.period, readSlabKey(found).slice), emptyValue)])
}
