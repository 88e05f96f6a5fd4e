/**
 * `twinfold rebuild twins [--tenant ID] [--check]`: makes twins anew from their events and writes those that differ (src/twin/rebuild-twins.ts).
 * In a cluster beside running servers; embedded only while the server is not running, since one process has the store.
 */
import { randomBytes } from 'node:crypto'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { Log } from './core/log.js'
import { openStore } from './store/open-store.js'
import { storeSpec } from './store-spec.js'
import { rebuildTwins } from './twin/rebuild-twins.js'

interface Tools {
  readonly clock: Clock
  readonly log: Log
  /** Progress, for people. */
  readonly tell: (text: string) => void
}

/**
 * @param tenant null: all.
 * @param check true: compares only.
 * @returns lines for people.
 * @throws TwinfoldError `store_unavailable` (embedded, also while the server is running), `not_found`, `format_newer`
 */
export async function rebuildTwinsCommand (config: Config, { tenant, check }: { readonly tenant: string | null, readonly check: boolean }, { clock, log, tell }: Tools): Promise<readonly string[]> {
  const store = await openStore(storeSpec(config), { clock, log, writer: true })
  try {
    if (tenant !== null && await store.getTenant(tenant) === null) throw new TwinfoldError('not_found', `there is no tenant '${tenant}'`)
    let toldMs = clock.monotonicMs()
    const { twins, events, differing, rewritten, unprovable, examples } = await rebuildTwins({
      store,
      tenant,
      write: !check,
      writer: randomBytes(8).toString('hex'),
      nowStamp: () => clock.nowUs(),
      onProgress: report => {
        if (clock.monotonicMs() - toldMs < 1000) return
        toldMs = clock.monotonicMs()
        tell(`${report.twins} twins, ${report.events} events\n`)
      }
    })
    return [
      `${twins} twins were made anew from ${events} events: ${differing} differed${check ? '' : `, ${rewritten} were rewritten`}${unprovable > 0 ? `, ${unprovable} have a gap in their history` : ''}.`,
      ...examples
    ]
  } finally {
    await store.close()
  }
}
