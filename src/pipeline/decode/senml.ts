/**
 * Resolves a SenML pack (RFC 8428) into readings, for JSON and CBOR alike. What the RFC leaves open is settled so:
 *
 * - The metric is the resolved name (`bn` + `n`) as it is, also where it begins with the device's own id or URN. In a
 *   multi-device body the resolved name is `device/metric`, split at its last `/`.
 * - Records of one device with the same resolved time form one reading; of two with one name the last wins.
 * - A time below 2^28 seconds is relative to the arrival (section 4.5.3); one of exactly 0 counts as not stamped.
 * - A sum (`s` plus `bs`) becomes a metric of its own, named with `.sum` after it. Units (`u`, `bu`) and update times
 *   (`ut`) are not kept: a metric has no unit. `vd` is kept as the base64url text that JSON carries.
 * - A record with base fields only sets them; `bv` without `v` gives the base value (section 4.5.4 adds it to zero).
 * - `bver` above 10 and unknown fields that end in `_` (section 4.4) refuse the whole pack, and so does a record that
 *   breaks the rules of its format: fields after it could mean something else. A well-formed record whose name, value,
 *   time or device cannot be stored refuses only its reading, kept as a resolved pack (section 4.6) that can be replayed.
 */
import { usPerSecond } from '../../core/reading.js'
import type { DeadLetterReason } from '../../store/dead-letter-store.js'
import { quoted, type ReadingSink } from './reading-sink.js'
import { timestampFromSeconds } from './timestamp.js'

/** A scalar of a record; anything else a field may hold is `undefined`. */
export type SenmlScalar = number | string | boolean | undefined
/** Fields of one record by their JSON label. */
export type SenmlRecord = Iterable<readonly [string, SenmlScalar]>

/** A record without base fields and relative times (RFC 8428 section 4.6). */
export interface ResolvedRecord {
  readonly name: string
  /** Seconds since 1970. */
  readonly seconds: number
  readonly value: number | string | boolean | undefined
  readonly data: boolean
  readonly sum: number | undefined
}

/** Version of RFC 8428 (section 4.4). */
const senmlVersion = 10
/** Times below are relative to now (section 4.5.3). */
const relativeSecondsBelow = 2 ** 28
/** Section 4.5.1: characters of a resolved name. */
const resolvedName = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/
const sumSuffix = '.sum'

interface SenmlReading {
  readonly device: string
  /** µs, NaN where not stamped. */
  readonly ts: number
  readonly records: ResolvedRecord[]
}

/** What the pack says so far that later records build on. */
interface Bases {
  name: string
  seconds: number
  value: number | undefined
  sum: number | undefined
}

/** A pack that breaks the format. */
interface PackProblem { readonly reason: DeadLetterReason, readonly detail: string }

const fieldTypes: Readonly<Record<string, 'number' | 'string' | 'boolean'>> = {
  bver: 'number', bn: 'string', bt: 'number', bu: 'string', bv: 'number', bs: 'number',
  n: 'string', u: 'string', v: 'number', vs: 'string', vb: 'boolean', vd: 'string', s: 'number', t: 'number', ut: 'number'
}

/**
 * Stores the readings of a pack.
 *
 * @param encode makes the payload of a refused reading
 * @returns readings stored, or what is wrong with the pack, of which nothing was stored then.
 */
export function storePack (sink: ReadingSink, pack: Iterable<SenmlRecord | null>, encode: (records: readonly ResolvedRecord[]) => Uint8Array): number | PackProblem {
  const readings = resolvePack(pack, sink.context.multiDevice, sink.context.stamp)
  if (!(readings instanceof Map)) return readings
  if (readings.size === 0) return { reason: 'empty', detail: 'the pack holds no value' }
  sink.several = true
  let stored = 0
  for (const reading of readings.values()) {
    if (storeReading(sink, reading)) stored++
    else if (sink.problem !== '') sink.context.refuse(sink.problem, sink.detail, sink.deviceId, encode(reading.records))
    sink.index++
  }
  return stored
}

function storeReading (sink: ReadingSink, reading: SenmlReading): boolean {
  const { multiDevice } = sink.context
  sink.begin()
  if (multiDevice && reading.device === '') return sink.refuse('not_a_reading', `${quoted(reading.records[0].name)} does not say its device: names are device/metric here`)
  if (multiDevice && !sink.device(reading.device)) return false
  for (const { name, value, sum } of reading.records) {
    if (!resolvedName.test(name)) return sink.refuse('metric_name_invalid', `${quoted(name)} is no SenML name (RFC 8428 section 4.5.1)`)
    const metric = multiDevice ? name.slice(name.lastIndexOf('/') + 1) : name
    if (typeof value === 'number' && !sink.number(metric, value)) return false
    if (typeof value === 'boolean' && !sink.boolean(metric, value)) return false
    if (typeof value === 'string' && !sink.string(metric, value)) return false
    if (sum !== undefined && !sink.number(metric + sumSuffix, sum)) return false
  }
  if (reading.ts < 0) return sink.refuse('ts_invalid', 'the resolved time is before 1970 or after the year 2255')
  return sink.finish(reading.ts)
}

/** Groups the records of a pack by device and time, in the order of their first record. */
function resolvePack (pack: Iterable<SenmlRecord | null>, multiDevice: boolean, stamp: number): Map<string, SenmlReading> | PackProblem {
  const bases: Bases = { name: '', seconds: 0, value: undefined, sum: undefined }
  const readings = new Map<string, SenmlReading>()
  let number = 0
  for (const record of pack) {
    const fields = checkRecord(record)
    const resolved = fields instanceof Map ? resolveRecord(fields, bases, stamp) : fields
    if (resolved !== null && 'reason' in resolved) return { reason: resolved.reason, detail: `record ${number}: ${resolved.detail}` }
    number++
    if (resolved === null) continue
    const { record: entry, ts } = resolved
    const slash = multiDevice ? entry.name.lastIndexOf('/') : -1
    const device = slash === -1 ? '' : entry.name.slice(0, slash)
    const key = `${device} ${ts}`
    const reading = readings.get(key)
    if (reading === undefined) readings.set(key, { device, ts, records: [entry] })
    else reading.records.push(entry)
  }
  return readings
}

function invalid (detail: string): PackProblem {
  return { reason: 'senml_invalid', detail }
}

/** The known fields of a record, each of its type. */
function checkRecord (record: SenmlRecord | null): Map<string, SenmlScalar> | PackProblem {
  if (record === null) return invalid('a record is a map of fields')
  const fields = new Map<string, SenmlScalar>()
  for (const [label, value] of record) {
    const type = Object.hasOwn(fieldTypes, label) ? fieldTypes[label] : undefined
    if (type === undefined) {
      if (label.endsWith('_')) return invalid(`field ${quoted(label)} has to be understood and is not`)
      continue
    }
    if (typeof value !== type) return invalid(`field "${label}" is no ${type}`)
    if (value === Infinity || value === -Infinity) return { reason: 'value_invalid', detail: `field "${label}" is beyond the range of a double` }
    fields.set(label, value)
  }
  const version = fields.get('bver')
  if (version !== undefined && (version as number) > senmlVersion) return invalid(`version ${String(version)} is newer than ${senmlVersion}`)
  return fields
}

/** @returns null for a record that only sets base fields. */
function resolveRecord (fields: Map<string, SenmlScalar>, bases: Bases, stamp: number): { record: ResolvedRecord, ts: number } | PackProblem | null {
  const isBase = fields.has('bn') || fields.has('bt') || fields.has('bu') || fields.has('bv') || fields.has('bs') || fields.has('bver')
  bases.name = fields.get('bn') as string | undefined ?? bases.name
  bases.seconds = fields.get('bt') as number | undefined ?? bases.seconds
  bases.value = fields.get('bv') as number | undefined ?? bases.value
  bases.sum = fields.get('bs') as number | undefined ?? bases.sum
  const values = ['v', 'vs', 'vb', 'vd'].filter((label) => fields.has(label))
  if (values.length > 1) return invalid(`fields "${values.join('" and "')}" exclude each other`)
  const named = fields.has('n')
  if (values.length === 0 && !fields.has('s') && !named && isBase) return null
  const value = resolveValue(fields, values[0], bases)
  const sum = fields.has('s') || bases.sum !== undefined ? (fields.get('s') as number | undefined ?? 0) + (bases.sum ?? 0) : undefined
  if (value === undefined && sum === undefined) return invalid('it has neither a value nor a sum')
  const name = bases.name + (fields.get('n') as string | undefined ?? '')
  const seconds = bases.seconds + (fields.get('t') as number | undefined ?? 0)
  const ts = resolveTime(seconds, stamp)
  const absolute = Number.isNaN(ts) ? stamp / usPerSecond : ts < 0 ? seconds : ts / usPerSecond
  return { record: { name, seconds: absolute, value, data: fields.has('vd'), sum }, ts }
}

function resolveValue (fields: Map<string, SenmlScalar>, label: string | undefined, bases: Bases): SenmlScalar {
  if (label === 'v') return (fields.get('v') as number) + (bases.value ?? 0)
  if (label === undefined) return fields.has('s') ? undefined : bases.value
  return fields.get(label)
}

/** µs; NaN for "now", -1 where the time is out of the range of timestamps. */
function resolveTime (seconds: number, stamp: number): number {
  if (seconds === 0) return NaN
  const ts = seconds < relativeSecondsBelow ? stamp + Math.round(seconds * usPerSecond) : timestampFromSeconds(seconds)
  return ts >= 0 ? ts : -1
}
