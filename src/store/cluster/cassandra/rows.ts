/** The driver's rows as plain objects: bigints as JS numbers, everything else as it comes. */
import { types } from 'cassandra-driver'
import { TwinfoldError } from '../../../core/errors.js'
import type { Row } from './cassandra-client.js'

function exactNumber (value: types.Long, column: string): number {
  const number = value.toNumber()
  if (Number.isSafeInteger(number)) return number
  throw new TwinfoldError('corrupt_data', `column ${column} holds ${value.toString()}, which is beyond 2^53`)
}

/** @throws TwinfoldError `corrupt_data` for a bigint that a JS number cannot hold. */
export function plainRow (row: types.Row): Row {
  const plain: Record<string, unknown> = {}
  for (const column of row.keys()) {
    const value: unknown = row[column]
    plain[column] = value instanceof types.Long ? exactNumber(value, column) : value
  }
  return plain
}

/** @throws TwinfoldError `corrupt_data` for a bigint that a JS number cannot hold. */
export function plainRows (result: types.ResultSet): readonly Row[] {
  // A statement that returns no rows has none at all, not an empty list.
  const rows = result.rows as types.Row[] | undefined
  return rows === undefined ? [] : rows.map(plainRow)
}
