/** Reading ranges of a database in batches. */
import type { Database } from './level.js'

export interface Range {
  readonly gte?: Uint8Array
  readonly gt?: Uint8Array
  readonly lt?: Uint8Array
  readonly lte?: Uint8Array
  readonly reverse?: boolean
  /** Rows at most; all where it is absent. */
  readonly limit?: number
}

export type Row = readonly [key: Buffer, value: Buffer]

/** Bytes that one call to LevelDB returns at most, about; the memory that a scan holds. */
const batchBytesMax = 256 * 1024
const batchRowsMax = 1000
/** The same where all rows are wanted. */
const allBytesMax = 1024 * 1024
/** Keys that are read at first behind a jump: the next one may be a jump again. */
const keysAfterJump = 4

/** Rows of the range in order, a batch at a time. The first batch is small: many readers need only the first rows. */
export async function * scanRows (database: Database, range: Range): AsyncGenerator<readonly Row[]> {
  const iterator = database.iterator({ ...range, highWaterMarkBytes: batchBytesMax })
  try {
    for (let rowsMax = 16; ; rowsMax = Math.min(batchRowsMax, rowsMax * 4)) {
      const rows = await iterator.nextv(rowsMax) as unknown as Row[]
      if (rows.length === 0) return
      yield rows
    }
  } finally {
    await iterator.close()
  }
}

/** All rows of the range at once, for ranges that are known to be small; as few calls as LevelDB allows. */
export async function readRows (database: Database, range: Range): Promise<Row[]> {
  const iterator = database.iterator({ ...range, highWaterMarkBytes: allBytesMax })
  try {
    let all: Row[] = []
    for (;;) {
      const rows = await iterator.nextv(batchRowsMax) as unknown as Row[]
      if (rows.length === 0) return all
      all = all.length === 0 ? rows : all.concat(rows)
    }
  } finally {
    await iterator.close()
  }
}

/** Keys of the range in order, a batch at a time. */
export async function * scanKeys (database: Database, range: Range): AsyncGenerator<readonly Buffer[]> {
  const iterator = database.keys({ ...range, highWaterMarkBytes: batchBytesMax })
  try {
    for (let rowsMax = 16; ; rowsMax = Math.min(batchRowsMax, rowsMax * 4)) {
      const keys = await iterator.nextv(rowsMax) as Buffer[]
      if (keys.length === 0) return
      yield keys
    }
  } finally {
    await iterator.close()
  }
}

/**
 * Keys of the range in order. `jump`: null for a key that is wanted; else the key from which on the next one may be, and what
 * lies before it is not looked at.
 */
export async function * keysWithJumps (database: Database, range: Range, jump: (key: Buffer) => Buffer | null): AsyncGenerator<Buffer> {
  const iterator = database.keys({ ...range, highWaterMarkBytes: batchBytesMax })
  try {
    for (let keysMax = keysAfterJump; ;) {
      const keys = await iterator.nextv(keysMax) as Buffer[]
      if (keys.length === 0) return
      keysMax = Math.min(batchRowsMax, keysMax * 4)
      for (const key of keys) {
        const next = jump(key)
        if (next === null) {
          yield key
        } else {
          iterator.seek(next)
          keysMax = keysAfterJump
          break
        }
      }
    }
  } finally {
    await iterator.close()
  }
}

/** The first key of the range, or null. */
export async function firstKey (database: Database, range: Range): Promise<Buffer | null> {
  const iterator = database.keys({ ...range, limit: 1 })
  try {
    return (await iterator.nextv(1) as Buffer[])[0] ?? null
  } finally {
    await iterator.close()
  }
}
