/** `twinfold journal adopt DIR` as a command: asks who lives, adopts, and says what was done. */
import { adoptJournal } from './adopt.js'
import { adoptedHandlers } from './adopt-handlers.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { Log } from './core/log.js'
import type { NodeSeen } from './store/node-store.js'
import { openNodes } from './store/open-nodes.js'
import { clickHouseSettings, storeSpec } from './store-spec.js'
import type { RedisSettings } from '../workers/protocol.js'

interface Tools { readonly clock: Clock, readonly log: Log }

/** How long Redis may take to answer before the nodes count as unknown. */
const askAttempts = 20
const askPauseMs = 250

/** @returns lines for people. @throws TwinfoldError as adoptJournal does */
export async function adopt (config: Config, directory: string, tools: Tools): Promise<readonly string[]> {
  const store = storeSpec(config)
  if (store.kind !== 'cluster') throw new TwinfoldError('invalid_request', 'an adoption packs into the store of a cluster: set TWINFOLD_STORE=cluster and where the services are')
  const clickHouse = clickHouseSettings(config)
  const nodes = await nodesNow(store.redis, tools)
  const lines = nodes === null ? ['Redis does not answer, so nobody could be asked whether the journal\'s node is really gone.'] : []
  const { journalId, already, slices, readings, points, messages, damagedRecords, notInAnalytics = '' } = await adoptJournal({ directory, store, ...(clickHouse === null ? {} : { clickHouse }), packThreads: config.packThreads, nodes: nodes ?? [], appliedBy: async (opened, journal) => adoptedHandlers(config, opened, journal, tools), ...tools })
  lines.push(already
    ? `Journal ${journalId} was adopted before; nothing was done.`
    : `Journal ${journalId} is adopted: ${slices} slices, ${readings} readings, ${points} points packed, ${messages} messages of devices applied${damagedRecords > 0 ? `, ${damagedRecords} damaged records passed over (see the log)` : ''}.`)
  if (notInAnalytics !== '') lines.push(`Not all of it is in analytics (${notInAnalytics}): run twinfold rebuild analytics.`)
  return lines
}

/** The nodes heard of; null: nobody could be asked. */
async function nodesNow (redis: RedisSettings, tools: Tools): Promise<readonly NodeSeen[] | null> {
  const opened = openNodes(redis, tools)
  try {
    for (let attempt = 0; attempt < askAttempts; attempt++) {
      const seen = await opened.nodes.seen().catch(() => null)
      if (seen !== null) return seen
      await new Promise(resolve => { setTimeout(resolve, askPauseMs) })
    }
    return null
  } finally {
    await opened.close()
  }
}
