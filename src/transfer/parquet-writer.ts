/**
 * Exports as Parquet: row groups of bounded size, written as they fill; the footer comes last. Times are TIMESTAMP in microseconds,
 * adjusted to UTC. Wide: a nullable column a metric (a metric that had two types has two columns; the file's metadata says which). Long:
 * `metric` with `number`, `boolean` or `string`. Memory: one row group, and a few hundred bytes a group for the footer.
 */
import type { SchemaElement } from 'hyparquet'
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import type { Chunk, Value } from '../core/reading.js'
import { readingsOf } from '../series/merge.js'
import { reservedColumns } from './cells.js'
import type { ExportColumn } from './export-task.js'
import { windowFields, type ExportWriter, type WindowRecord, type Write } from './export-writer.js'
import { columnsKey, type ParquetColumn } from './parse-parquet.js'

type Kind = 'text' | 'time' | 'number' | 'boolean'
interface ColumnSpec { readonly name: string, readonly kind: Kind, readonly nullable: boolean }

const groupRowsMax = 65_536
const groupCellsMax = 1_000_000
/** Characters of texts in one group. */
const groupCharsMax = 8 * 1024 * 1024

const elements: Readonly<Record<Kind, Omit<SchemaElement, 'name' | 'repetition_type'>>> = {
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  time: { type: 'INT64', converted_type: 'TIMESTAMP_MICROS', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MICROS' } },
  number: { type: 'DOUBLE' },
  boolean: { type: 'BOOLEAN' }
}

type Cell = string | number | boolean | bigint | null

/** A file with the given columns, row by row. */
class ParquetRows {
  readonly #write: Write
  readonly #specs: readonly ColumnSpec[]
  readonly #bytes = new ByteWriter(64 * 1024)
  readonly #file: ParquetWriter
  readonly #groupRows: number
  #columns: Cell[][]
  #rows = 0
  #chars = 0

  constructor (write: Write, specs: readonly ColumnSpec[], metadata: readonly ParquetColumn[] | null) {
    this.#write = write
    this.#specs = specs
    this.#groupRows = Math.max(1, Math.min(groupRowsMax, Math.floor(groupCellsMax / specs.length)))
    this.#columns = specs.map(() => [])
    const schema: SchemaElement[] = [{ name: 'root', num_children: specs.length }, ...specs.map(({ name, kind, nullable }): SchemaElement => ({
      name, ...elements[kind], repetition_type: nullable ? 'OPTIONAL' : 'REQUIRED'
    }))]
    this.#file = new ParquetWriter({
      writer: this.#bytes, schema, createdBy: 'twinfold', statistics: false,
      ...(metadata === null ? {} : { kvMetadata: [{ key: columnsKey, value: JSON.stringify(metadata) }] })
    })
  }

  add (cells: readonly Cell[]): void {
    for (let i = 0; i < cells.length; i++) {
      const cell = cells[i]
      this.#columns[i].push(cell)
      if (typeof cell === 'string') this.#chars += cell.length
    }
    this.#rows++
  }

  get full (): boolean { return this.#rows >= this.#groupRows || this.#chars >= groupCharsMax }

  async writeGroup (): Promise<void> {
    if (this.#rows > 0) {
      const columnData = this.#specs.map(({ name }, i) => ({ name, data: this.#columns[i], offsetIndex: true }))
      await this.#file.write({ columnData, rowGroupSize: this.#rows })
      this.#columns = this.#specs.map(() => [])
      this.#rows = 0
      this.#chars = 0
    }
    await this.#drain()
  }

  async end (): Promise<void> {
    await this.writeGroup()
    await this.#file.finish()
    await this.#drain()
  }

  async #drain (): Promise<void> {
    if (this.#bytes.index === 0) return
    const bytes = this.#bytes.getBytes().slice()
    this.#bytes.index = 0
    await this.#write(bytes)
  }
}

const kindOf = { number: 'number', boolean: 'boolean', string: 'text' } as const

/** Columns of a wide file: `device`, `ts`, then metrics by name. */
function wideColumns (columns: readonly ExportColumn[]): { specs: ColumnSpec[], metadata: ParquetColumn[], index: Map<string, number> } {
  const specs: ColumnSpec[] = []
  const metadata: ParquetColumn[] = []
  const index = new Map<string, number>()
  const taken = new Set(columns.map(({ metric }) => metric))
  const freeName = (name: string): string => {
    let free = name
    for (let i = 2; taken.has(free); i++) free = `${name}_${i}`
    taken.add(free)
    return free
  }
  const deviceName = taken.has('device') ? reservedColumns.device : 'device'
  const tsName = taken.has('ts') ? reservedColumns.ts : 'ts'
  specs.push({ name: deviceName, kind: 'text', nullable: false }, { name: tsName, kind: 'time', nullable: false })
  for (const { metric, types } of columns) {
    for (const type of ['number', 'boolean', 'string'] as const) {
      if (!types.has(type)) continue
      // The first type of a metric has the metric's name, a second one a name of its own.
      const name = index.has(`number\0${metric}`) || index.has(`boolean\0${metric}`) ? freeName(`${metric}:${type}`) : metric
      index.set(`${type}\0${metric}`, specs.length)
      specs.push({ name, kind: kindOf[type], nullable: true })
      metadata.push({ column: name, metric })
    }
  }
  return { specs, metadata, index }
}

const longSpecs: readonly ColumnSpec[] = [
  { name: 'device', kind: 'text', nullable: false }, { name: 'ts', kind: 'time', nullable: false }, { name: 'metric', kind: 'text', nullable: false },
  { name: 'number', kind: 'number', nullable: true }, { name: 'boolean', kind: 'boolean', nullable: true }, { name: 'string', kind: 'text', nullable: true }
]

abstract class RowsWriter implements ExportWriter {
  protected readonly file: ParquetRows

  constructor (file: ParquetRows) {
    this.file = file
  }

  async begin (): Promise<void> {}

  protected abstract reading (device: string, ts: bigint, values: readonly (readonly [string, Value])[]): void

  async chunk (device: string, chunk: Chunk): Promise<number> {
    let points = 0
    for (const { ts, values } of readingsOf(chunk, 'asc')) {
      points += values.length
      this.reading(device, BigInt(ts), values)
      if (this.file.full) await this.file.writeGroup()
    }
    return points
  }

  async windows (_device: string, _records: readonly WindowRecord[]): Promise<number> {
    throw new Error('a file of readings holds no windows')
  }

  async end (): Promise<void> { await this.file.end() }
}

export class WideParquetWriter extends RowsWriter {
  readonly #index: ReadonlyMap<string, number>
  readonly #width: number

  constructor (write: Write, columns: readonly ExportColumn[]) {
    const { specs, metadata, index } = wideColumns(columns)
    super(new ParquetRows(write, specs, metadata))
    this.#index = index
    this.#width = specs.length
  }

  protected reading (device: string, ts: bigint, values: readonly (readonly [string, Value])[]): void {
    const cells = new Array<Cell>(this.#width).fill(null)
    cells[0] = device
    cells[1] = ts
    let any = false
    for (const [metric, value] of values) {
      const at = this.#index.get(`${typeof value}\0${metric}`)
      // A type that came after the columns were settled has none.
      if (at === undefined) continue
      cells[at] = value
      any = true
    }
    if (any) this.file.add(cells)
  }
}

export class LongParquetWriter extends RowsWriter {
  constructor (write: Write) {
    super(new ParquetRows(write, longSpecs, null))
  }

  protected reading (device: string, ts: bigint, values: readonly (readonly [string, Value])[]): void {
    for (const [metric, value] of values) {
      this.file.add([device, ts, metric, typeof value === 'number' ? value : null, typeof value === 'boolean' ? value : null, typeof value === 'string' ? value : null])
    }
  }
}

const windowKinds: Readonly<Partial<Record<keyof WindowRecord, Kind>>> = { start: 'time', firstTs: 'time', lastTs: 'time', metric: 'text', type: 'text', first: 'text', last: 'text' }

/** `first` and `last` are texts, whatever their type; `type` says which. */
export class TierParquetWriter implements ExportWriter {
  readonly #file: ParquetRows

  constructor (write: Write) {
    this.#file = new ParquetRows(write, [{ name: 'device', kind: 'text', nullable: false }, ...windowFields.map((name): ColumnSpec => ({ name, kind: windowKinds[name] ?? 'number', nullable: true }))], null)
  }

  async begin (): Promise<void> {}

  async chunk (_device: string, _chunk: Chunk): Promise<number> {
    throw new Error('a file of windows holds no readings')
  }

  async windows (device: string, records: readonly WindowRecord[]): Promise<number> {
    for (const record of records) {
      this.#file.add([device, ...windowFields.map((field): Cell => {
        const value = record[field]
        if (value === null) return null
        const kind = windowKinds[field]
        return kind === 'time' ? BigInt(value as number) : kind === 'text' ? String(value) : value
      })])
      if (this.#file.full) await this.#file.writeGroup()
    }
    return records.length
  }

  async end (): Promise<void> { await this.#file.end() }
}
