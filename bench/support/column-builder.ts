/** Columns of a chunk from values that come row by row: one column for each (metric, type). */
import type { Column, Value } from '../../src/core/reading.js'

interface Growing { readonly metric: string, readonly type: Column['type'], readonly rows: number[], readonly values: Value[] }

export class ColumnBuilder {
  readonly #columns = new Map<string, Growing>()

  /** Rows ascend. */
  add (metric: string, row: number, value: Value): void {
    const type = typeof value as Column['type']
    const key = `${type}\0${metric}`
    let column = this.#columns.get(key)
    if (column === undefined) this.#columns.set(key, column = { metric, type, rows: [], values: [] })
    column.rows.push(row)
    column.values.push(value)
  }

  columns (rowCount: number): Column[] {
    return [...this.#columns.values()].map(({ metric, type, rows: given, values }) => {
      const rows = given.length === rowCount ? null : Uint32Array.from(given)
      if (type === 'number') return { metric, type, rows, values: Float64Array.from(values as number[]) }
      if (type === 'boolean') return { metric, type, rows, values: Uint8Array.from(values as boolean[], value => value ? 1 : 0) }
      return { metric, type, rows, values: values as string[] }
    })
  }
}
