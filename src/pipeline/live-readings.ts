/**
 * Readings of a slice that somebody watches now, as text for their sockets (workers/live-protocol.ts). Runs in the packers, which
 * have decoded the slice anyway. While nobody watches it costs nothing; else a look-up per device of the slice, and the writing of
 * the readings that are wanted, once per filter, however many watch.
 *
 * Bounded: beyond `textCharsPerTenantMax` and `textCharsMax` of a slice, readings are left out and only the newest value of each
 * metric is given; beyond `newestCharsMax` the tenant is named as lossy.
 */
import { formatTime, formatValue } from '../core/json-values.js'
import type { Value } from '../core/reading.js'
import type { LiveFilter, LiveGroup, LiveReadings, LiveWants, NewestValue, WantedReadings } from '../../workers/live-protocol.js'
import type { PackTask } from '../../workers/protocol.js'
import { splitDeviceKey } from './group.js'
import { PointType, type SliceTable } from './slice-table.js'

const textCharsPerTenantMax = 512 * 1024
const textCharsMax = 2 * 1024 * 1024
const newestCharsMax = 2 * 1024 * 1024

interface ReadFilter extends LiveFilter {
  readonly wanted: ReadonlySet<string> | null
}

interface ReadTenant {
  readonly all: readonly ReadFilter[]
  readonly devices: ReadonlyMap<string, readonly ReadFilter[]>
}

type SliceOf = Pick<PackTask, 'journalId' | 'mark' | 'live'>

function readWants (bytes: SharedArrayBuffer): Map<string, ReadTenant> {
  // A decoder takes no shared memory, so it is copied.
  const { filters: given, tenants } = JSON.parse(Buffer.from(new Uint8Array(bytes)).toString()) as WantedReadings
  const filters = given.map(filter => ({ ...filter, wanted: filter.metrics === null ? null : new Set(filter.metrics) }))
  const read = new Map<string, ReadTenant>()
  for (const [tenant, all, devices] of tenants) {
    read.set(tenant, { all: all.map(at => filters[at]), devices: new Map(devices.map(([device, wanted]) => [device, wanted.map(at => filters[at])])) })
  }
  return read
}

function valueOf (table: SliceTable, type: number, point: number): Value {
  const value = table.pointValue[point]
  if (type === PointType.number) return value
  return type === PointType.boolean ? value !== 0 : table.strings[value]
}

export class LiveReader {
  #version = -1
  #wants = new Map<string, ReadTenant>()
  #textChars = 0
  #newestChars = 0
  readonly #textCharsOf = new Map<string, number>()

  /** null where nothing of the slice is watched. The slice must stand in the table. */
  select (table: SliceTable, task: SliceOf): LiveReadings | null {
    if (task.live === undefined) return null
    this.#follow(task.live)
    const wanted = this.#wantedDevices(table)
    if (wanted.size === 0) return null
    const rowsOf = new Map<number, number[]>()
    for (let row = 0; row < table.rows; row++) {
      const device = table.rowDevice[row]
      if (!wanted.has(device)) continue
      const rows = rowsOf.get(device)
      if (rows === undefined) rowsOf.set(device, [row])
      else rows.push(row)
    }
    this.#textChars = this.#newestChars = 0
    this.#textCharsOf.clear()
    const groups: LiveGroup[] = []
    const lossy = new Set<string>()
    const id = `${task.journalId}.${task.mark.to}`
    for (const [number, rows] of rowsOf) {
      for (const filter of wanted.get(number) as readonly ReadFilter[]) {
        const group = this.#group(table, table.devices[number], filter, rows, id)
        if (group === 'too much') lossy.add(splitDeviceKey(table.devices[number]).tenant)
        else if (group !== null) groups.push(group)
      }
    }
    return { groups, lossy: [...lossy] }
  }

  #follow ({ version, bytes }: LiveWants): void {
    // Slices that run side by side may have been given out with different versions.
    if (version <= this.#version) return
    this.#wants = readWants(bytes)
    this.#version = version
  }

  #wantedDevices (table: SliceTable): Map<number, readonly ReadFilter[]> {
    const wanted = new Map<number, readonly ReadFilter[]>()
    for (let number = 0; number < table.devices.length; number++) {
      const { tenant, device } = splitDeviceKey(table.devices[number])
      const wants = this.#wants.get(tenant)
      if (wants === undefined) continue
      const own = wants.devices.get(device)
      if (own === undefined && wants.all.length === 0) continue
      wanted.set(number, own === undefined ? wants.all : [...new Set([...wants.all, ...own])])
    }
    return wanted
  }

  /** null where the device's readings have nothing of what is wanted. */
  #group (table: SliceTable, deviceKey: string, filter: ReadFilter, rows: readonly number[], id: string): LiveGroup | 'too much' | null {
    const { tenant, device } = splitDeviceKey(deviceKey)
    const head = filter.form === 'sse' ? `id: ${id}\nevent: reading\ndata: {"device":${JSON.stringify(device)},` : '{'
    const tail = filter.form === 'sse' ? '}\n\n' : '}\n'
    const newest = new Map<string, NewestValue>()
    let text = ''
    let readings = 0
    let omitted = 0
    for (const row of rows) {
      const values = writeValues(table, row, filter, newest)
      if (values === '') continue
      const line = `${head}"ts":${formatTime(table.rowTs[row], filter.times)},"values":{${values}}${tail}`
      if (this.#roomForText(tenant, line.length)) {
        text += line
        readings++
      } else {
        omitted++
      }
    }
    if (readings + omitted === 0) return null
    const newestText = JSON.stringify([...newest.values()])
    if (this.#newestChars + newestText.length > newestCharsMax) return 'too much'
    this.#newestChars += newestText.length
    return { tenant, device, filter: filter.key, id, readings, text, newest: newestText, omitted }
  }

  #roomForText (tenant: string, chars: number): boolean {
    const ofTenant = (this.#textCharsOf.get(tenant) ?? 0) + chars
    if (ofTenant > textCharsPerTenantMax || this.#textChars + chars > textCharsMax) return false
    this.#textCharsOf.set(tenant, ofTenant)
    this.#textChars += chars
    return true
  }
}

/** The wanted values of a row as members of a JSON object, '' where there are none; the newest of each metric is kept up. */
function writeValues (table: SliceTable, row: number, filter: ReadFilter, newest: Map<string, NewestValue>): string {
  const shape = table.shapes[table.rowShape[row]]
  const ts = table.rowTs[row]
  let text = ''
  for (let at = 0; at < shape.metrics.length; at++) {
    const metric = table.metrics[shape.metrics[at]]
    if (filter.wanted !== null && !filter.wanted.has(metric)) continue
    const name = JSON.stringify(metric)
    const value = formatValue(valueOf(table, shape.types[at], table.rowPoint[row] + at))
    text += text === '' ? `${name}:${value}` : `,${name}:${value}`
    const known = newest.get(metric)
    // Rows ascend by arrival: of equal times the later one wins.
    if (known === undefined || ts >= known[1]) newest.set(metric, [metric, ts, `${name}:{"ts":${formatTime(ts, filter.times)},"value":${value}}`])
  }
  return text
}
