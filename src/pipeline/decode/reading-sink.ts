/**
 * Takes one reading after the other from the decoders into the SliceTable and judges what no format can: names, lengths,
 * counts, device, timestamp. Promises: a reading becomes a row with all its points or nothing at all, and the reason for
 * nothing is one of the stable ones with a detail that names the field or rule.
 *
 * Life of a reading: `begin`, then `number`/`boolean`/`string` for each metric, `device` and `ts` where the message has
 * them, then `finish`. Each returns false once the reading is refused; `problem` and `detail` say why.
 */
import { isDeviceId } from '../../core/ids.js'
import { metricNameBytesMax, metricsPerReadingMax, stringValueBytesMax } from '../../core/limits.js'
import type { DeadLetterReason } from '../../store/dead-letter-store.js'
import { PointType, type Shape, type SliceTable } from '../slice-table.js'
import type { DecodeContext } from './decode-types.js'

/** C0 and C1 control characters, DEL, and halves of surrogate pairs, which have no UTF-8 form. */
const forbiddenInName = /[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u
const loneSurrogate = /\p{Surrogate}/u
/** Characters of a name or id that a detail quotes. */
const quotedCharsMax = 64

/** A name from outside as it may stand in a detail: quoted, escaped, cut. */
export function quoted (text: string): string {
  return JSON.stringify(text.length > quotedCharsMax ? `${text.slice(0, quotedCharsMax)}…` : text)
}

export class ReadingSink {
  readonly table: SliceTable
  /** Why the current reading was refused; '' while it is not. */
  problem: DeadLetterReason | '' = ''
  detail = ''
  /** Device of the current reading; '' where none is known (yet). */
  deviceId = ''
  /** Place of the current reading in its message: its accept stamp is the message's plus this. */
  index = 0
  /** True where the message may hold several readings, so that the timestamps given out must be remembered. */
  several = false

  count = 0
  /** Shape of the reading that `finish` stored last. */
  shapeStored = 0
  readonly #metrics = new Int32Array(metricsPerReadingMax)
  readonly #types = new Int32Array(metricsPerReadingMax)
  #context!: DecodeContext
  /** Shape of the reading stored before, while the current one has had the same names so far; else null. */
  #followed: Shape | null = null
  #before: Shape | null = null
  #epoch = 0
  #firstPoint = 0
  #firstString = 0
  #deviceNumber = -1
  /** The last device id looked up for this body, its number, or -1 where it is not allowed. */
  #knownDevice = ''
  #knownDeviceNumber = -1

  constructor (table: SliceTable) {
    this.table = table
  }

  get context (): DecodeContext { return this.#context }

  /** Starts a body. What was learned about devices belongs to the old one. */
  open (context: DecodeContext): void {
    this.#context = context
    this.#knownDevice = ''
    this.#knownDeviceNumber = -1
    this.index = 0
    this.several = false
    if (this.#epoch !== this.table.epoch) this.#before = null
    this.#epoch = this.table.epoch
  }

  begin (): void {
    const { table } = this
    this.problem = ''
    this.detail = ''
    this.count = 0
    this.#followed = this.#before
    this.#firstPoint = table.points
    this.#firstString = table.strings.length
    this.deviceId = this.#context.device
    this.#deviceNumber = this.#context.deviceNumber
  }

  /** Refuses the current reading and takes back what stands of it in the table. Always false. */
  refuse (reason: DeadLetterReason, detail: string): false {
    this.problem = reason
    this.detail = detail
    this.takeBack()
    return false
  }

  /** Removes the points of the current reading. */
  takeBack (): void {
    this.table.points = this.#firstPoint
    this.table.strings.length = this.#firstString
    this.count = 0
  }

  number (name: string, value: number): boolean {
    return this.#put(name, PointType.number, value)
  }

  boolean (name: string, value: boolean): boolean {
    return this.#put(name, PointType.boolean, value ? 1 : 0)
  }

  string (name: string, value: string): boolean {
    if (value.length * 3 > stringValueBytesMax && Buffer.byteLength(value) > stringValueBytesMax) {
      return this.refuse('string_too_long', `${quoted(name)} is longer than ${stringValueBytesMax} bytes`)
    }
    if (loneSurrogate.test(value)) return this.refuse('value_invalid', `${quoted(name)} holds half of a surrogate pair, which is no text`)
    const { strings } = this.table
    strings.push(value)
    return this.#put(name, PointType.string, strings.length - 1)
  }

  /** `name` has no value in this reading, whatever an earlier member of that name said. */
  nothing (name: string): void {
    const place = this.#placeOf(name)
    if (place === -1) return
    this.#followed = null
    const { pointValue } = this.table
    const first = this.#firstPoint
    for (let i = place; i + 1 < this.count; i++) {
      this.#metrics[i] = this.#metrics[i + 1]
      this.#types[i] = this.#types[i + 1]
      pointValue[first + i] = pointValue[first + i + 1]
    }
    this.count--
    this.table.points--
  }

  /** The device that a reading of a multi-device body names. */
  device (id: string): boolean {
    this.deviceId = id
    if (id !== this.#knownDevice) {
      if (!isDeviceId(id)) return this.refuse('device_unknown', `${quoted(id)} is no device id: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -`)
      const { tenant } = this.#context
      this.#knownDevice = id
      this.#knownDeviceNumber = this.#context.deviceAllowed(id) ? this.table.deviceNumber(tenant, id) : -1
    }
    this.#deviceNumber = this.#knownDeviceNumber
    return this.#deviceNumber !== -1 || this.refuse('device_unknown', `no device ${quoted(id)} takes readings from this sender`)
  }

  /** True where the last device looked up in this body is the ASCII text bytes[from, to); then `device` is free. */
  isKnownDevice (bytes: Buffer, from: number, to: number): boolean {
    const known = this.#knownDevice
    if (known.length !== to - from || known.length === 0) return false
    for (let i = 0; i < known.length; i++) {
      if (known.charCodeAt(i) !== bytes[from + i]) return false
    }
    return true
  }

  /** As `device`, for the id of which `isKnownDevice` was true. */
  sameDevice (): boolean { return this.device(this.#knownDevice) }

  /**
   * Stores the reading.
   * @param ts µs, NaN where the message gives none
   */
  finish (ts: number): boolean {
    if (this.count === 0) return this.refuse('empty', 'the reading holds no value')
    this.shapeStored = this.#shape()
    return this.finishShape(ts, this.shapeStored)
  }

  #shape (): number {
    const { count } = this
    const followed = this.#followed
    if (followed !== null && followed.types.length === count) {
      let i = 0
      while (i < count && followed.types[i] === this.#types[i]) i++
      if (i === count) return followed.id
    }
    const id = this.table.shapeId(Array.from(this.#metrics.subarray(0, count)), Array.from(this.#types.subarray(0, count)))
    this.#before = this.table.shapes[id]
    return id
  }

  /** As `finish`, for a reading whose points already stand in the table in the order of `shape`. */
  finishShape (ts: number, shape: number): boolean {
    const context = this.#context
    if (this.#deviceNumber === -1) {
      return this.refuse('not_a_reading', 'the reading does not say which "device" it belongs to')
    }
    if (Number.isNaN(ts)) {
      ts = this.#unstamped()
    } else if (ts < context.oldestTs) {
      return this.refuse('ts_expired', `ts is ${ts / 1000} ms, older than the retention; ts is counted in milliseconds since 1970`)
    } else if (ts > context.newestTs) {
      return this.refuse('ts_future', `ts is ${ts / 1000} ms, too far ahead of the arrival; ts is counted in milliseconds since 1970`)
    }
    this.table.addRow(this.#deviceNumber, ts, context.stamp + this.index, shape, this.#firstPoint)
    return true
  }

  /** A timestamp for a reading without one: its arrival, but never one that the device was given before (DESIGN 3.8). */
  #unstamped (): number {
    const { lastUnstamped, stamp } = this.#context
    const arrival = stamp + this.index
    const last = lastUnstamped.size === 0 ? undefined : lastUnstamped.get(this.#deviceNumber)
    if (this.#context.exact === true) {
      lastUnstamped.set(this.#deviceNumber, Math.max(arrival, last ?? 0))
      return arrival
    }
    const ts = last !== undefined && last >= arrival ? last + 1 : arrival
    if (this.several || ts !== arrival) lastUnstamped.set(this.#deviceNumber, ts)
    return ts
  }

  #placeOf (name: string): number {
    if (this.count === 0 || name.length > metricNameBytesMax) return -1
    return this.#place(this.table.metricId(name))
  }

  /** At most `metricsPerReadingMax` steps, and only for readings whose shape was not predicted. */
  #place (metric: number): number {
    for (let i = 0; i < this.count; i++) {
      if (this.#metrics[i] === metric) return i
    }
    return -1
  }

  #put (name: string, type: number, value: number): boolean {
    const followed = this.#followed
    const { table, count } = this
    if (followed !== null && count < followed.metrics.length && table.metrics[followed.metrics[count]] === name) {
      // The names so far are those of a legal reading, in its order: this one is legal too, and new.
      this.#add(followed.metrics[count], type, value)
      return true
    }
    return this.#putUnexpected(name, type, value)
  }

  /** Adds a metric that the reading does not have yet. */
  #add (metric: number, type: number, value: number): void {
    const { table } = this
    const place = this.count++
    table.reservePoints(1)
    table.points++
    this.#metrics[place] = metric
    this.#types[place] = type
    table.pointValue[this.#firstPoint + place] = value
  }

  #putUnexpected (name: string, type: number, value: number): boolean {
    this.#followed = null
    if (name.length === 0) return this.refuse('metric_name_invalid', 'a metric name is empty')
    if (name.length * 3 > metricNameBytesMax && Buffer.byteLength(name) > metricNameBytesMax) {
      return this.refuse('metric_name_invalid', `metric name ${quoted(name)} is longer than ${metricNameBytesMax} bytes`)
    }
    if (forbiddenInName.test(name)) return this.refuse('metric_name_invalid', `metric name ${quoted(name)} holds a control character or half of a surrogate pair`)
    const metric = this.table.metricId(name)
    const place = this.#place(metric)
    if (place !== -1) {
      this.#types[place] = type
      this.table.pointValue[this.#firstPoint + place] = value
      return true
    }
    if (this.count === metricsPerReadingMax) return this.refuse('too_many_metrics', `a reading holds at most ${metricsPerReadingMax} metrics`)
    this.#add(metric, type, value)
    return true
  }
}
