/** Runs a BodyDecoder on a body that stands between foreign bytes, and gives back what is in the table as plain values. */
import { RecordKind } from '../../src/journal/record.js'
import { BodyDecoder } from '../../src/pipeline/decode/body.js'
import type { DecodeContext } from '../../src/pipeline/decode/decode-types.js'
import { PointType, SliceTable } from '../../src/pipeline/slice-table.js'

export const stamp = 1_700_000_000_000_000
export const retentionUs = 30 * 86400e6
export const aheadUs = 600e6

export interface Row {
  readonly device: string
  readonly ts: number
  readonly stamp: number
  readonly values: Record<string, number | boolean | string>
}

export interface Refusal { readonly reason: string, readonly detail: string, readonly device: string, readonly payload: Buffer }

export interface Outcome { readonly stored: number, readonly rows: Row[], readonly refused: Refusal[] }

export interface Options {
  readonly kind?: RecordKind
  readonly multiDevice?: boolean
  readonly stamp?: number
  readonly lastUnstamped?: Map<number, number>
  readonly deviceAllowed?: (device: string) => boolean
  /** What stands behind the body in the buffer, instead of bytes that go on like a number. */
  readonly after?: Buffer
  /** Takes all timestamps. */
  readonly anyTime?: boolean
}

/** Bytes that a decoder which reads past its bounds would take for more of a number, a string or an array. */
const before = Buffer.from('[{"x":1')
const after = Buffer.from('9e5"}]}]')

export class Harness {
  readonly table = new SliceTable()
  readonly decoder = new BodyDecoder(this.table)

  /** Decodes into an emptied table. */
  decode (body: Buffer | string, options: Options = {}): Outcome {
    this.table.reset()
    return this.append(body, options)
  }

  /** Decodes behind what the table holds already; gives back the new rows only. */
  append (body: Buffer | string, options: Options = {}): Outcome {
    const { table } = this
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body)
    const whole = Buffer.concat([before, bytes, options.after ?? after])
    const refused: Refusal[] = []
    const multiDevice = options.multiDevice === true
    const at = options.stamp ?? stamp
    const context: DecodeContext = {
      table, tenant: 't', device: multiDevice ? '' : 'own', deviceNumber: multiDevice ? -1 : table.deviceNumber('t', 'own'), multiDevice,
      stamp: at, oldestTs: options.anyTime === true ? 0 : at - retentionUs, newestTs: options.anyTime === true ? Infinity : at + aheadUs,
      lastUnstamped: options.lastUnstamped ?? new Map(),
      refuse (reason, detail, device, payload) { refused.push({ reason, detail, device, payload: Buffer.from(payload) }) },
      deviceAllowed: options.deviceAllowed ?? (() => true)
    }
    const { rows, points } = table
    const strings = table.strings.length
    const stored = this.decoder.decode(options.kind ?? RecordKind.bodyAuto, whole, before.length, before.length + bytes.length, context)
    const outcome = { stored, rows: this.rows(rows), refused }
    const pointsOfRows = outcome.rows.reduce((sum, row) => sum + Object.keys(row.values).length, 0)
    if (stored !== outcome.rows.length) throw new Error(`${stored} readings are said to be stored, ${outcome.rows.length} rows stand in the table`)
    if (table.points - points !== pointsOfRows) throw new Error(`${table.points - points} points stand in the table, its rows have ${pointsOfRows}`)
    if (stored === 0 && table.strings.length !== strings) throw new Error('a body that left no row left strings')
    return outcome
  }

  rows (from: number): Row[] {
    const { table } = this
    const rows: Row[] = []
    for (let row = from; row < table.rows; row++) {
      const shape = table.shapes[table.rowShape[row]]
      const entries = shape.metrics.map((metric, i): [string, number | boolean | string] => {
        const value = table.pointValue[table.rowPoint[row] + i]
        return [table.metrics[metric], shape.types[i] === PointType.number ? value : shape.types[i] === PointType.boolean ? value === 1 : table.strings[value]]
      })
      const values = Object.create(null) as Row['values']
      for (const [name, value] of entries) {
        if (name in values) throw new Error(`${name} stands twice in a row`)
        values[name] = value
      }
      rows.push({ device: table.devices[table.rowDevice[row]].slice('t\0'.length), ts: table.rowTs[row], stamp: table.rowStamp[row], values })
    }
    return rows
  }
}

/** The same values, bit for bit: -0 is not 0, NaN is NaN. */
export function sameValues (a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => name in b && Object.is(a[name], b[name]))
}
