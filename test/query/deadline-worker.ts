/** A query thread of a test: tasks that give themselves up, hang, or are quick, as the device's name says. */
import { outcomeOf, type Outcome } from '../../src/core/outcome.js'
import { TwinfoldError } from '../../src/core/errors.js'
import type { QueryResult, QueryTask } from '../../workers/protocol.js'

const answer: QueryResult = { body: new TextEncoder().encode('[]'), readings: 0, lastTs: null, more: false }
const pause = async (ms: number): Promise<void> => { await new Promise(resolve => setTimeout(resolve, ms)) }

export default async function run (task: QueryTask): Promise<Outcome<QueryResult>> {
  return await outcomeOf(async () => {
    const [kind, ms] = task.device.split('-')
    if (kind === 'away') throw new TwinfoldError('store_unavailable', 'Cassandra does not answer', { retryAfterMs: 3000 })
    if (kind === 'hangs') await pause(1e9)
    if (kind === 'patient') {
      while (Date.now() * 1000 < (task.deadlineUs as number)) await pause(5)
      throw new TwinfoldError('store_unavailable', 'gave itself up')
    }
    await pause(Number(ms))
    return answer
  })
}
