/** Answers a query task with JSON bytes. Runs in a worker thread: nothing per point happens on the main thread. */
import { usPerDay, usPerMs, type Value } from '../core/reading.js'
import { readingsOf } from '../series/merge.js'
import type { Store } from '../store/store.js'
import type { LatestQuery, QueryResult, QueryTask, RangeQuery, TimeFormat } from '../../workers/protocol.js'
import { readReadings } from './read-readings.js'

export async function runQuery (store: Store, task: QueryTask): Promise<QueryResult> {
  return task.kind === 'range' ? await runRange(store, task) : await runLatest(store, task)
}

async function runRange (store: Store, task: RangeQuery): Promise<QueryResult> {
  const metrics = task.metrics === null ? null : new Set(task.metrics)
  const parts: string[] = []
  let lastTs: number | null = null
  let more = false
  reading: for await (const chunk of readReadings(store, { ...task, metrics })) {
    for (const reading of readingsOf(chunk, task.order)) {
      if (parts.length === task.limit) {
        more = true
        break reading
      }
      parts.push(`{"ts":${formatTime(reading.ts, task.times)},"values":${formatValues(reading.values)}}`)
      lastTs = reading.ts
    }
  }
  return { body: bytesOf(`[${parts.join(',')}]`), readings: parts.length, lastTs, more }
}

/** The newest point of each metric by event time: a late point never replaces a newer one. */
async function runLatest (store: Store, task: LatestQuery): Promise<QueryResult> {
  const wantedOn = new Map<number, Set<string>>()
  for await (const row of store.raw.scanSeen(task)) {
    for (const metric of row.metrics) {
      if (task.metrics !== null && !task.metrics.includes(metric)) continue
      let day = wantedOn.get(row.day)
      if (day === undefined) wantedOn.set(row.day, day = new Set())
      day.add(metric)
    }
  }
  const found = new Map<string, { ts: number, value: Value }>()
  for (const day of [...wantedOn.keys()].sort((a, b) => b - a)) {
    const missing = new Set([...wantedOn.get(day) as Set<string>].filter(metric => !found.has(metric)))
    if (missing.size === 0) continue
    await findLatest(store, task, day, missing, found)
  }
  const parts = [...found].sort(([a], [b]) => a < b ? -1 : 1)
    .map(([metric, { ts, value }]) => `${JSON.stringify(metric)}:{"ts":${formatTime(ts, task.times)},"value":${formatValue(value)}}`)
  return { body: bytesOf(`{${parts.join(',')}}`), readings: parts.length, lastTs: null, more: false }
}

async function findLatest (store: Store, task: LatestQuery, day: number, missing: Set<string>, found: Map<string, { ts: number, value: Value }>): Promise<void> {
  const request = { ...task, fromTs: day, toTs: day + usPerDay, order: 'desc' as const, metrics: new Set(missing) }
  for await (const chunk of readReadings(store, request)) {
    for (const reading of readingsOf(chunk, 'desc')) {
      for (const [metric, value] of reading.values) {
        if (!missing.has(metric)) continue
        found.set(metric, { ts: reading.ts, value })
        missing.delete(metric)
      }
      if (missing.size === 0) return
    }
  }
}

function bytesOf (text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text)
}

/** ISO 8601 with as many digits as needed (ms or µs), or milliseconds with a fraction. */
export function formatTime (ts: number, times: TimeFormat): string {
  if (times === 'ms') return String(ts / usPerMs)
  const micros = ((ts % usPerMs) + usPerMs) % usPerMs
  const iso = new Date(Math.floor(ts / usPerMs)).toISOString()
  return micros === 0 ? `"${iso}"` : `"${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z"`
}

/**
 * JSON has no NaN and no infinities: they are given as the strings "NaN", "Infinity" and "-Infinity" (docs/API.md).
 * -0 keeps its sign.
 */
export function formatValue (value: Value): string {
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value)
    return `"${value}"`
  }
  return typeof value === 'boolean' ? String(value) : JSON.stringify(value)
}

function formatValues (values: Iterable<readonly [string, Value]>): string {
  const parts: string[] = []
  for (const [metric, value] of values) parts.push(`${JSON.stringify(metric)}:${formatValue(value)}`)
  return `{${parts.join(',')}}`
}

