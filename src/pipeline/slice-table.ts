/**
 * The staging table of a worker: all readings of one slice as rows and points in flat typed arrays, filled by the
 * decoders (decode/) and grouped by device afterwards (group.ts). Reused from slice to slice; nothing per point is
 * allocated. Row order is arrival order.
 *
 * A *shape* is the interned list of (metric, type) of a reading. Devices send the same shape again and again, so the
 * decoders predict it and most readings cost no look-up by name.
 */
export const PointType = { number: 0, boolean: 1, string: 2 } as const

export interface Shape {
  readonly id: number
  /** Ids into `SliceTable.metrics`, in the order of the message. */
  readonly metrics: readonly number[]
  /** PointType of each. */
  readonly types: readonly number[]
}

export class SliceTable {
  /** Names by metric id; ids live as long as the table (bounded by `reset`, which drops them past a limit). */
  readonly metrics: string[] = []
  readonly shapes: Shape[] = []
  /** Device keys by device number of this slice: `tenant \0 device`. */
  readonly devices: string[] = []

  rows = 0
  rowDevice = new Int32Array(1024)
  rowTs = new Float64Array(1024)
  rowStamp = new Float64Array(1024)
  rowShape = new Int32Array(1024)
  /** First point of a row in `pointValue`; its shape says how many there are. */
  rowPoint = new Int32Array(1024)

  points = 0
  /** A number; 0 or 1 for a boolean; an index into `strings` for a string. */
  pointValue = new Float64Array(8192)
  readonly strings: string[] = []

  readonly #metricIds = new Map<string, number>()
  readonly #shapeIds = new Map<string, number>()
  readonly #deviceNumbers = new Map<string, number>()

  /** Empties rows and points for the next slice; interned names stay unless they have become many. */
  reset (): void {
    this.rows = 0
    this.points = 0
    this.strings.length = 0
    this.devices.length = 0
    this.#deviceNumbers.clear()
    if (this.metrics.length > 100_000 || this.shapes.length > 50_000) this.forgetNames()
  }

  /** Drops interned names and shapes. Predictors that hold shape ids must be dropped with them (`epoch`). */
  forgetNames (): void {
    this.metrics.length = 0
    this.shapes.length = 0
    this.#metricIds.clear()
    this.#shapeIds.clear()
    this.epoch++
  }

  /** Changes when ids become invalid. */
  epoch = 0

  metricId (name: string): number {
    let id = this.#metricIds.get(name)
    if (id === undefined) {
      id = this.metrics.length
      this.metrics.push(name)
      this.#metricIds.set(name, id)
    }
    return id
  }

  shapeId (metrics: readonly number[], types: readonly number[]): number {
    let key = ''
    for (let i = 0; i < metrics.length; i++) key += `${metrics[i]}:${types[i]},`
    let id = this.#shapeIds.get(key)
    if (id === undefined) {
      id = this.shapes.length
      this.shapes.push({ id, metrics: [...metrics], types: [...types] })
      this.#shapeIds.set(key, id)
    }
    return id
  }

  deviceNumber (tenant: string, device: string): number {
    const key = `${tenant}\0${device}`
    let number = this.#deviceNumbers.get(key)
    if (number === undefined) {
      number = this.devices.length
      this.devices.push(key)
      this.#deviceNumbers.set(key, number)
    }
    return number
  }

  /** Makes room for `count` more points; call before writing `pointValue` directly. */
  reservePoints (count: number): void {
    if (this.points + count > this.pointValue.length) {
      const grown = new Float64Array(Math.max(this.pointValue.length * 2, this.points + count))
      grown.set(this.pointValue)
      this.pointValue = grown
    }
  }

  /** Adds a row whose points already stand at [firstPoint, this.points). */
  addRow (device: number, ts: number, stamp: number, shape: number, firstPoint: number): void {
    if (this.rows === this.rowTs.length) this.#growRows()
    const row = this.rows++
    this.rowDevice[row] = device
    this.rowTs[row] = ts
    this.rowStamp[row] = stamp
    this.rowShape[row] = shape
    this.rowPoint[row] = firstPoint
  }

  #growRows (): void {
    const length = this.rowTs.length * 2
    const int = (old: Int32Array): Int32Array<ArrayBuffer> => { const grown = new Int32Array(length); grown.set(old); return grown }
    const float = (old: Float64Array): Float64Array<ArrayBuffer> => { const grown = new Float64Array(length); grown.set(old); return grown }
    this.rowDevice = int(this.rowDevice)
    this.rowTs = float(this.rowTs)
    this.rowStamp = float(this.rowStamp)
    this.rowShape = int(this.rowShape)
    this.rowPoint = int(this.rowPoint)
  }
}
