/** Rows of doubles in columns that grow: what a fold writes its windows into, without an object per window. */

const rowsAtFirst = 64

export class GrowingRows {
  /** Written up to `length`; may be replaced by `row`. */
  columns: Float64Array[]
  length = 0

  constructor (width: number) {
    this.columns = Array.from({ length: width }, () => new Float64Array(rowsAtFirst))
  }

  /** Adds a row of zeros and returns its number. */
  row (): number {
    const { columns, length } = this
    if (length === columns[0].length) {
      this.columns = columns.map(column => {
        const grown = new Float64Array(length * 2)
        grown.set(column)
        return grown
      })
    }
    return this.length++
  }

  /** A column, in an array of its own. */
  take (column: number): Float64Array {
    return this.columns[column].slice(0, this.length)
  }
}
