/** Verification after a drill: the tiers of a store that no server has open, or of a cluster's beside the servers. */
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { differenceText } from '../../src/verify-command.js'
import { verifyStore } from '../../src/sealing/verify.js'
import { openStore } from '../../src/store/open-store.js'
import type { StoreSpec } from '../../workers/protocol.js'

export interface Verified {
  readonly buckets: number
  readonly points: number
  /** One line each. */
  readonly differences: readonly string[]
}

export async function verifySpec (spec: StoreSpec): Promise<Verified> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  try {
    const { buckets, points, listed } = await verifyStore(store, { nowUs: systemClock.nowUs() })
    return { buckets, points, differences: listed.slice(0, 20).map(differenceText) }
  } finally {
    await store.close()
  }
}

/** @param directory the data directory of a server that is not running */
export async function verifyEmbedded (directory: string): Promise<Verified> {
  return await verifySpec({ kind: 'embedded', directory: join(directory, 'store') })
}
