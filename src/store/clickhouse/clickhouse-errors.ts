/**
 * What went wrong with ClickHouse, as one TwinfoldError. Its text reaches users of any tenant, so it says neither addresses nor
 * ClickHouse's own text, which quotes rows; the whole error is its `cause`, for the log.
 */
import { ClickHouseError } from '@clickhouse/client'
import { TwinfoldError } from '../../core/errors.js'

const socketFaults: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens at its address',
  ECONNRESET: 'it closed the connection',
  EPIPE: 'it closed the connection',
  ENOTFOUND: 'its host name is not known',
  EAI_AGAIN: 'its host name cannot be looked up now',
  ETIMEDOUT: 'it does not answer',
  EHOSTUNREACH: 'its host cannot be reached',
  ENETUNREACH: 'its network cannot be reached'
}

/** Exceptions that say that the data is gone or was never made, by ClickHouse's numbers: UNKNOWN_TABLE, UNKNOWN_DATABASE. */
const unknownThing: readonly string[] = ['60', '81']

export function isUnknownTable (error: unknown): boolean {
  return error instanceof ClickHouseError && unknownThing.includes(error.code)
}

/** Not reachable or late; a statement that ClickHouse answered with an exception proves that it is there. */
export function isServersFault (error: Error): boolean {
  return error instanceof TwinfoldError && error.code === 'analytics_unavailable' && !(error.cause instanceof ClickHouseError)
}

export function clickHouseError (error: unknown): TwinfoldError {
  if (error instanceof TwinfoldError) return error
  return new TwinfoldError('analytics_unavailable', `ClickHouse ${whatHappened(error)}`, { cause: error })
}

function whatHappened (error: unknown): string {
  if (error instanceof ClickHouseError) return `refused the statement (${error.type ?? 'exception'}, ${error.code})`
  const { code, name, message } = error as { code?: string, name?: string, message?: string }
  if (code !== undefined && Object.hasOwn(socketFaults, code)) return `is not reachable: ${socketFaults[code]}`
  if (name === 'AbortError' || name === 'TimeoutError' || /aborted|time(d )?out/i.test(message ?? '')) return 'did not answer in time'
  if (/socket hang up/i.test(message ?? '')) return 'is not reachable: it closed the connection'
  return `failed${code === undefined ? '' : ` (${code})`}`
}
