/** Thread entry of the sealers: head chunks into sealed buckets and tier rows. One store handle per thread. */
import { workerData } from 'node:worker_threads'
import { systemClock } from '../src/core/clock.js'
import { outcomeOf, type Outcome } from '../src/core/outcome.js'
import { silentLog } from '../src/core/log.js'
import { scanDirty } from '../src/sealing/scan-dirty.js'
import { sealBucket } from '../src/sealing/seal-bucket.js'
import { threadCpuMs } from '../src/sealing/thread-cpu.js'
import { openStore } from '../src/store/open-store.js'
import type { StoreSpec } from './protocol.js'
import type { ScanResult, SealResult, SealWorkerTask } from './seal-protocol.js'

const { store: spec } = workerData as { store: StoreSpec }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
const { nowUs, monotonicMs } = systemClock

export default async function run (task: SealWorkerTask): Promise<Outcome<SealResult | ScanResult>> {
  return await outcomeOf(async () => {
    switch (task.kind) {
      case 'seal': return await sealBucket(task, { store, nowUs, cpuMs: threadCpuMs })
      case 'scan': return await scanDirty(task, { raw: store.raw, monotonicMs, cpuMs: threadCpuMs })
    }
  })
}
