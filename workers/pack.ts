/** Thread entry of the packers: slices of the journal into rows, slabs into chunks. One store handle per thread. */
import { workerData } from 'node:worker_threads'
import { systemClock } from '../src/core/clock.js'
import { outcomeOf, type Outcome } from '../src/core/outcome.js'
import { silentLog } from '../src/core/log.js'
import { SlabMerge } from '../src/pipeline/merge-slabs.js'
import { SlicePacker } from '../src/pipeline/pack-slice.js'
import { SliceWatch } from '../src/pipeline/slice-watch.js'
import { planLookup } from '../src/pipeline/task-lookup.js'
import { openStore } from '../src/store/open-store.js'
import type { HotResult, MergeResult, PackResult, PackWorkerTask, StoreSpec } from './protocol.js'

const { store: spec, leaseMs } = workerData as { store: StoreSpec, leaseMs: number }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
const plans = planLookup(store, { leaseMs, rememberedMax: 200_000 })
const watch = new SliceWatch(store, { leaseMs, monotonicMs: systemClock.monotonicMs })
const packer = new SlicePacker({ store, plans, leaseMs, watch, monotonicMs: systemClock.monotonicMs })
const merger = new SlabMerge({ store, plans, monotonicMs: systemClock.monotonicMs, nowUs: systemClock.nowUs })

export default async function run (task: PackWorkerTask): Promise<Outcome<PackResult | HotResult | MergeResult>> {
  return await outcomeOf(async () => {
    switch (task.kind) {
      case 'pack': return await packer.pack(task)
      case 'hot': return await packer.packHot(task)
      case 'merge': return await merger.merge(task)
    }
  })
}
