/** Thread entry of the readers: queries into JSON bytes. */
import { workerData } from 'node:worker_threads'
import { systemClock } from '../src/core/clock.js'
import { silentLog } from '../src/core/log.js'
import { outcomeOf, type Outcome } from '../src/core/outcome.js'
import { QueryRunner } from '../src/query/run-query.js'
import { openStore } from '../src/store/open-store.js'
import type { QueryResult, QueryTask, StoreSpec } from './protocol.js'

const { store: spec } = workerData as { store: StoreSpec }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
const runner = new QueryRunner(store, { clock: systemClock })

export default async function run (task: QueryTask): Promise<Outcome<QueryResult>> {
  return await outcomeOf(async () => await runner.run(task))
}
