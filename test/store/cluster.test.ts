/** The cluster store on the real services keeps what the embedded one keeps. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openClusterStore } from '../../src/store/cluster/cluster-store.js'
import type { Store } from '../../src/store/store.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { newKeyspace } from './cassandra-fixture.js'
import { claimStoreContract } from './claim-store.contract.js'
import { deadLetterContract } from './dead-letter.contract.js'
import { erasedPartsContract } from './erased-parts.contract.js'
import { jobStoreContract } from './job-store.contract.js'
import { outboxContract } from './outbox.contract.js'
import { planContract } from './plan.contract.js'
import { rawStoreContract } from './raw-store.contract.js'
import { registryContract } from './registry.contract.js'
import { sealRequestsContract } from './seal-requests.contract.js'
import { smallContract } from './small.contract.js'
import { tierStoreContract } from './tier-store.contract.js'

t.setTimeout(180_000)

if (!skipWithout(t, 'cassandra') && !skipWithout(t, 'redis')) {
  // One store for all contract tests, as they use names of their own.
  const cassandra = newKeyspace(t)
  const redis = { url: services().redis?.url ?? '', prefix: `${newTestName()}:` }
  let shared: Promise<Store> | null = null
  const open = async (): Promise<Store> => await (shared ??= openClusterStore({ spec: { kind: 'cluster', cassandra, redis, outbox: true }, clock: systemClock, log: silentLog, writer: true }))
  t.teardown(async () => { await (await shared)?.close() })
  registryContract(t, open)
  planContract(t, open)
  deadLetterContract(t, open)
  smallContract(t, open)
  jobStoreContract(t, open)
  erasedPartsContract(t, open)
  rawStoreContract(t, open)
  tierStoreContract(t, open)
  claimStoreContract(t, open)
  sealRequestsContract(t, open)
  outboxContract(t, open)
}
