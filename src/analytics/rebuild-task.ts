/**
 * A piece of a rebuild: all points and sealed hours of some devices, read from the store as every reader sees them and written to
 * analytics. Runs in a worker thread. What is there already is written again under the same version, so that it counts as
 * written now; live projection goes on meanwhile, and neither can undo the other.
 */
import { TwinfoldError } from '../core/errors.js'
import { timestampUsMax } from '../core/limits.js'
import { usPerDay, usPerMinute, usPerSecond } from '../core/reading.js'
import { journalColumnName } from '../series/merge.js'
import type { Bucket } from '../series/partition-plan.js'
import { decodeTierRow, joinWindows, type TierWindows } from '../series/tiers/index.js'
import type { AnalyticsHours, AnalyticsStore } from '../store/analytics-store.js'
import { readReadings } from '../store/read-readings.js'
import type { Span } from '../store/spans.js'
import type { Store } from '../store/store.js'
import { retentionDaysAt, tierClasses, tierDaysAt, type Tenant } from '../tenancy/model.js'
import type { RebuildResult, RebuildTask } from '../../workers/project-protocol.js'
import { pointsOf } from './chunk-points.js'
import { completeAt, readAfter, unsealedSpans } from './complete-hours.js'
import { withoutErasedHours } from './erased-windows.js'
import { PointBatch, type PointBatchLimits } from './point-batch.js'

export interface RebuildTaskOptions {
  readonly store: Store
  readonly analytics: Pick<AnalyticsStore, 'insertPoints' | 'replaceHours'>
  readonly limits: PointBatchLimits
  readonly nowUs: () => number
}

/** More than the margins of fleet-cover.ts and `readAfter`. */
const settleUs = 7 * usPerSecond
/** Buckets that go into one insert. */
const bucketsAtOnce = 200
const damagedTold = 20

/** @throws TwinfoldError as the store and analytics do; the task is repeated. */
export async function runRebuildTask (task: RebuildTask, options: RebuildTaskOptions): Promise<RebuildResult> {
  const { store, analytics, limits } = options
  const tenant = await store.getTenant(task.tenant)
  const totals = { points: 0, hours: 0 }
  const damaged: string[] = []
  if (tenant === null) return { kind: 'rebuild', ...totals, damaged }
  // What became visible since the rebuild began is brought over by the projection as well, which says when.
  const batch = new PointBatch(analytics, limits, 0, task.startedUs)
  // Hours that are read so soon after the begin could not be told from earlier ones.
  await new Promise(resolve => { setTimeout(resolve, Math.max(0, task.startedUs + settleUs - options.nowUs()) / 1000) })
  for (const device of task.devices) {
    try {
      totals.points += await addPoints(tenant, device, options, batch)
      totals.hours += await addHours(tenant, device, options)
    } catch (error) {
      // One damaged row must not leave all other devices out.
      if (!(error instanceof TwinfoldError) || error.code !== 'corrupt_data') throw error
      if (damaged.length < damagedTold) damaged.push(`${task.tenant}/${device}: ${error.message}`)
    }
  }
  await batch.flush()
  return { kind: 'rebuild', ...totals, damaged }
}

async function addPoints (tenant: Tenant, device: string, { store, nowUs }: RebuildTaskOptions, batch: PointBatch): Promise<number> {
  const now = nowUs()
  const retentionDays = [...new Set(tenant.retention.map(({ days }) => days))]
  let points = 0
  const chunks = readReadings(store, {
    tenant: tenant.id, device, retentionDays, oldestTs: Math.max(0, now - retentionDaysAt(tenant, now) * usPerDay), fromTs: 0, toTs: timestampUsMax, order: 'asc', metrics: null, keepJournals: true
  })
  for await (const chunk of chunks) {
    points += chunk.columns.reduce((sum, { metric, values }) => metric === journalColumnName ? sum : sum + values.length, 0)
    await batch.add(pointsOf({ tenant: tenant.id, device, journalId: '', chunk, erased: [] }))
  }
  return points
}

/** Under the stamps of their seals: what the projection brought is written once more, and a later seal wins however late this comes. */
async function addHours (tenant: Tenant, device: string, { store, analytics, nowUs }: RebuildTaskOptions): Promise<number> {
  const now = nowUs()
  const erased = await store.erasedParts(tenant.id, device)
  const { plan } = await store.getPlan(tenant.id, device)
  const unsealed = await unsealedSpans(store.raw, { tenant: tenant.id, device, retentionDays: [...new Set(tenant.retention.map(({ days }) => days))] })
  const range = { tenant: tenant.id, device, retentionDays: tierClasses(tenant, '1h') }
  const buckets = new Map<string, { readonly bucket: Bucket, version: number, readonly parts: TierWindows[] }>()
  let hours = 0
  const flush = async (): Promise<void> => {
    const joined = [...buckets.values()].map(({ bucket, version, parts }): AnalyticsHours => {
      // Where nothing is unsealed, the rows are those of now, however old their seal is.
      const isSealed = !meetsBucket(unsealed, bucket)
      const windows = withoutErasedHours(joinWindows(parts), { bucket, version }, erased)
      return { tenant: tenant.id, device, bucket, version, windows, complete: completeAt(plan, bucket, isSealed ? now : readAfter(version)) }
    })
    buckets.clear()
    hours += joined.reduce((sum, { windows }) => sum + windows.reduce((count, { starts }) => count + starts.length, 0), 0)
    await analytics.replaceHours(joined)
  }
  // Rows come by day; those of a bucket of many days follow one another with others' between.
  for await (const { bucket, sequence, bytes } of store.tiers.scanTiers(range, '1h', Math.max(0, now - tierDaysAt(tenant, '1h', now) * usPerDay), timestampUsMax)) {
    const name = `${bucket.widthMinutes}:${bucket.start}`
    let entry = buckets.get(name)
    if (entry === undefined) {
      if (buckets.size >= bucketsAtOnce) await flush()
      buckets.set(name, entry = { bucket, version: sequence, parts: [] })
    }
    // Of a seal that writes right now, what is new comes with its own entry of the outbox.
    entry.version = Math.min(entry.version, sequence)
    entry.parts.push(decodeTierRow(bytes))
  }
  if (buckets.size > 0) await flush()
  return hours
}

function meetsBucket (spans: readonly Span[], { start, widthMinutes }: Bucket): boolean {
  return spans.some(({ fromTs, toTs }) => fromTs < start + widthMinutes * usPerMinute && toTs > start)
}
