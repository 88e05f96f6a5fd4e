/**
 * Conditional writes whose outcome is known. A conditional statement that was not answered in time may have been applied or
 * may yet be: a plain read cannot tell. It is sent again, which makes Cassandra finish what was begun, and what is then there
 * says whether it was ours; hence every conditional row carries something that only its writer knows.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { TwinfoldError } from '../../../core/errors.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'

const attemptsMax = 4
/** Before the second attempt; twice as long before each further one. */
const pauseMs = 20

export interface Settled {
  readonly applied: boolean
  /** What is there instead, where the statement was not applied and there is something. */
  readonly row: Row | null
}

/**
 * @param isOurs whether what is there is what this statement writes; asked only after an attempt whose outcome is unknown.
 * @throws TwinfoldError `store_unavailable` after four attempts: the outcome is still unknown then.
 */
export async function writeSettled (client: CassandraClient, { cql, parameters }: Statement, isOurs: (row: Row | null) => boolean): Promise<Settled> {
  let unknown = false
  for (let attempt = 1; ; attempt++) {
    try {
      const { applied, row } = await client.writeIf(cql, parameters)
      return { applied: applied || (unknown && isOurs(row)), row }
    } catch (error) {
      if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable' || attempt === attemptsMax) throw error
      unknown = true
      await pause(pauseMs * 2 ** (attempt - 1))
    }
  }
}

/** Runs what only tidies up: readers pass over what stays behind when Cassandra does not answer now. */
export async function tidyUp (action: Promise<void>): Promise<void> {
  try {
    await action
  } catch (error) {
    if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
  }
}
