/** Offline maintenance: merges all slabs into device chunks and compacts every window. The server must not be running. */
import { join } from 'node:path'
import type { Clock } from './core/clock.js'
import type { Log } from './core/log.js'
import type { Config } from './config.js'
import { SlabMerge } from './pipeline/merge-slabs.js'
import { planLookup } from './pipeline/task-lookup.js'
import { openStore } from './store/open-store.js'

export interface CompactResult {
  readonly slabs: number
  readonly bytesBefore: number
  readonly bytesAfter: number
}

export async function compactStore (config: Config, { clock, log }: { clock: Clock, log: Log }): Promise<CompactResult> {
  const store = await openStore({ kind: 'embedded', directory: join(config.dataDirectory, 'store') }, { clock, log, writer: true })
  try {
    const bytesBefore = await store.raw.sizeBytes()
    const merge = new SlabMerge({ store, plans: planLookup(store, { leaseMs: 60_000, rememberedMax: 200_000 }), monotonicMs: clock.monotonicMs, nowUs: clock.nowUs })
    let slabs = 0
    for (;;) {
      const merged = await merge.merge({ kind: 'merge', journalId: '', before: Infinity, slabsMax: 4000 })
      slabs += merged.slabs
      if (merged.slabs === 0) break
    }
    await store.raw.compact()
    return { slabs, bytesBefore, bytesAfter: await store.raw.sizeBytes() }
  } finally {
    await store.close()
  }
}
