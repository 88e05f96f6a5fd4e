/**
 * A store with devices that send, a sealer, and a model of what must be in the end: for tests of sealing. Readings go into the head
 * as the packer writes them: a chunk a device, bucket and slice, salted by the plan.
 */
import { readReadings } from '../../src/store/read-readings.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog, type Log } from '../../src/core/log.js'
import { usPerDay, usPerMinute, type Chunk, type Column, type Value } from '../../src/core/reading.js'
import { encodeChunk } from '../../src/series/codec.js'
import { readingsOf } from '../../src/series/merge.js'
import { bucketOf, saltFor, type PartitionPlan } from '../../src/series/partition-plan.js'
import { sealBucket } from '../../src/sealing/seal-bucket.js'
import { scanDirty } from '../../src/sealing/scan-dirty.js'
import { Sealer, type SealerOptions } from '../../src/sealing/sealer.js'
import { verifyStore, type VerifyResult } from '../../src/sealing/verify.js'
import type { Store } from '../../src/store/store.js'
import type { DeviceChunkRow, HeadWrite, RetentionClass } from '../../src/store/raw-store.js'
import { deviceOf, tenantOf } from '../store/store-fixtures.js'

export interface Sent {
  readonly device: string
  readonly ts: number
  readonly values: Readonly<Record<string, Value>>
}

interface Winner { readonly stamp: number, readonly journalId: string, readonly value: Value }

const retentionDays = 365

export class SealWorld {
  readonly store: Store
  readonly tenant: string
  readonly plans = new Map<string, PartitionPlan>()
  /** By device, then `metric \0 ts`. */
  readonly model = new Map<string, Map<string, Winner>>()
  /** Accept stamps, µs; also what the sealer's stamps are taken from. */
  stamp: number
  #mark = 1000

  private constructor (store: Store, tenant: string, startStamp: number) {
    this.store = store
    this.tenant = tenant
    this.stamp = startStamp
  }

  static async make (store: Store, { tenant, devices, startStamp = systemClock.nowUs(), days = retentionDays }: { tenant: string, devices: ReadonlyMap<string, PartitionPlan>, startStamp?: number, days?: number }): Promise<SealWorld> {
    const world = new SealWorld(store, tenant, startStamp)
    await store.createTenant(tenantOf(tenant, days))
    for (const [device, plan] of devices) {
      await store.createDevice(deviceOf(tenant, device))
      await store.putPlanIfVersion(tenant, device, plan, 0)
      world.plans.set(device, plan)
    }
    return world
  }

  takeStamps (count: number): number {
    const first = this.stamp + 1
    this.stamp += count
    return first
  }

  /** What a slice with these readings writes, each with a stamp of its own; counted in the model. */
  slice (readings: readonly Sent[], journalId = '00000000000000aa'): HeadWrite {
    const mark = this.#mark++
    const stamped = readings.map(reading => ({ ...reading, stamp: this.takeStamps(1) }))
    for (const { device, ts, values, stamp } of stamped) {
      const points = this.#pointsOf(device)
      for (const [metric, value] of Object.entries(values)) points.set(`${metric}\0${ts}`, { stamp, journalId, value })
    }
    const groups = new Map<string, (typeof stamped)[number][]>()
    for (const reading of stamped) {
      const bucket = bucketOf(this.planOf(reading.device), reading.ts)
      const key = `${reading.device}\0${bucket.widthMinutes}\0${bucket.start}`
      groups.set(key, [...groups.get(key) ?? [], reading])
    }
    const chunks: (DeviceChunkRow & RetentionClass)[] = []
    let part = 0
    for (const group of groups.values()) {
      const rows = [...group].sort((a, b) => a.ts - b.ts)
      const { device } = rows[0]
      const plan = this.planOf(device)
      const slice = { journalId, mark }
      chunks.push({
        tenant: this.tenant, device, bucket: bucketOf(plan, rows[0].ts), salt: saltFor(plan, slice, this.stamp), slice, part: part++,
        minTs: rows[0].ts, maxTs: rows[rows.length - 1].ts, bytes: encodeChunk(chunkOf(rows)), retentionDays
      })
    }
    const seen = new Map<string, { tenant: string, device: string, day: number, metrics: string[], retentionDays: number }>()
    for (const { device, ts, values } of readings) {
      const day = Math.floor(ts / usPerDay) * usPerDay
      const metrics = Object.keys(values).sort()
      seen.set(`${device}\0${day}\0${metrics.join()}`, { tenant: this.tenant, device, day, metrics, retentionDays })
    }
    return { chunks, slabs: [], seen: [...seen.values()] }
  }

  async send (readings: readonly Sent[], journalId?: string): Promise<HeadWrite> {
    const write = this.slice(readings, journalId)
    await this.store.raw.writeHead(write)
    return write
  }

  planOf (device: string): PartitionPlan {
    return this.plans.get(device) as PartitionPlan
  }

  #pointsOf (device: string): Map<string, Winner> {
    let points = this.model.get(device)
    if (points === undefined) this.model.set(device, points = new Map())
    return points
  }

  /** A sealer whose work is done in this thread. */
  sealer (more: Partial<SealerOptions> = {}, log: Log = silentLog): Sealer {
    const { store } = this
    return new Sealer({
      store,
      pool: {
        threads: 1,
        seal: async task => await sealBucket(task, { store, nowUs: systemClock.nowUs, cpuMs: systemClock.monotonicMs }),
        scan: async task => await scanDirty(task, { raw: store.raw, monotonicMs: systemClock.monotonicMs, cpuMs: systemClock.monotonicMs })
      },
      journal: { journalId: '00000000000000aa', takeStamps: count => this.takeStamps(count) },
      owner: 'test',
      node: 'test',
      nodes: () => ['test'],
      busy: () => false,
      outbox: false,
      clock: systemClock,
      log,
      gatherMs: 50,
      lagAlertMs: 300_000,
      ...more
    })
  }

  async verify (): Promise<VerifyResult> {
    return await verifyStore(this.store, { tenant: this.tenant, nowUs: systemClock.nowUs() })
  }

  /** What queries answer of the device, by `metric \0 ts`. */
  async stored (device: string): Promise<Map<string, Value>> {
    const points = new Map<string, Value>()
    const tenant = await this.store.getTenant(this.tenant)
    const classes = tenant?.retention.map(entry => entry.days) ?? []
    for await (const chunk of readReadings(this.store, { tenant: this.tenant, device, retentionDays: classes, oldestTs: -Infinity, fromTs: 0, toTs: Number.MAX_SAFE_INTEGER, order: 'asc', metrics: null })) {
      for (const { ts, values } of readingsOf(chunk, 'asc')) {
        for (const [metric, value] of values) {
          const key = `${metric}\0${ts}`
          if (points.has(key)) throw new Error(`${device} ${metric} ${ts} is answered twice`)
          points.set(key, value)
        }
      }
    }
    return points
  }

  /** Differences between answers and model, none where all is well; ten at most. */
  async compare (): Promise<string[]> {
    const wrong: string[] = []
    for (const [device, expected] of this.model) {
      const stored = await this.stored(device)
      for (const [key, { value }] of expected) if (!Object.is(stored.get(key), value)) wrong.push(`${device} ${key.replace('\0', ' ')}: ${String(stored.get(key))} instead of ${String(value)}`)
      for (const key of stored.keys()) if (!expected.has(key)) wrong.push(`${device} ${key.replace('\0', ' ')} was never sent`)
    }
    return wrong.slice(0, 10)
  }

  async headSlices (): Promise<number> {
    let slices = 0
    for (let shard = 0; shard < 256; shard++) for await (const mark of this.store.raw.scanDirty(this.tenant, shard, [retentionDays])) if (mark.tenant === this.tenant) slices++
    return slices
  }
}

export function chunkOf (rows: readonly { readonly ts: number, readonly stamp: number, readonly values: Readonly<Record<string, Value>> }[]): Chunk {
  const byColumn = new Map<string, { metric: string, type: 'number' | 'boolean' | 'string', rows: number[], values: Value[] }>()
  rows.forEach(({ values }, row) => {
    for (const [metric, value] of Object.entries(values)) {
      const type = typeof value as 'number' | 'boolean' | 'string'
      let column = byColumn.get(`${metric}\0${type}`)
      if (column === undefined) byColumn.set(`${metric}\0${type}`, column = { metric, type, rows: [], values: [] })
      column.rows.push(row)
      column.values.push(value)
    }
  })
  const columns = [...byColumn.values()].map(({ metric, type, rows: present, values }): Column => {
    const own = present.length === rows.length ? null : Uint32Array.from(present)
    if (type === 'number') return { metric, type, rows: own, values: Float64Array.from(values as number[]) }
    if (type === 'boolean') return { metric, type, rows: own, values: Uint8Array.from(values as boolean[], value => value ? 1 : 0) }
    return { metric, type, rows: own, values: values as string[] }
  })
  return { ts: Float64Array.from(rows, row => row.ts), stamps: Float64Array.from(rows, row => row.stamp), columns }
}

/** A plan of one width. */
export function planOfWidth (widthMinutes: 1 | 60 | 1440 | 43_200, salts = 1): PartitionPlan {
  return { widths: [{ fromTs: 0, widthMinutes }], salts: [{ fromStamp: 0, salts }] }
}

/** The UTC day so many days ago, µs. */
export function dayAgo (days: number): number {
  return Math.floor(systemClock.nowUs() / usPerDay) * usPerDay - days * usPerDay
}

export const minuteUs = usPerMinute
