/** What a node does for its connected clients once Redis is back, or has lost its data: they are claimed, their subscriptions and wills written again, their queues replayed. */
import type { ConnectedClient, LocalBroker } from '../../broker/messaging.js'
import { onTenant, type BrokerShared } from './broker-redis.js'
import type { LiveClient } from './live-clients.js'
import type { ClusterOutgoing } from './outgoing.js'
import { subscribeScript } from './session-scripts.js'
import { encodeOptions, type ClusterSessions } from './sessions.js'

/** Clients that are seen to at a time. */
const concurrency = 64

export class Rejoin {
  readonly #shared: BrokerShared
  readonly #sessions: ClusterSessions
  readonly #outgoing: ClusterOutgoing

  constructor (shared: BrokerShared, sessions: ClusterSessions, outgoing: ClusterOutgoing) {
    this.#shared = shared
    this.#sessions = sessions
    this.#outgoing = outgoing
  }

  /** Rejects where Redis goes away again; then all is done anew when it is back. */
  async run (reclaim: (live: LiveClient) => Promise<boolean>, local: LocalBroker): Promise<void> {
    await this.#each(this.#shared.live.all(), async live => {
      if (live.client.closed === true || !await reclaim(live)) return
      const { client } = live
      if (client.will !== null && client.will !== undefined) await this.#sessions.restoreWill(client, client.will)
      if (client.clean === true) return
      await this.#writeSubscriptions(live)
      await this.#outgoing.settle(live)
    })
    // Not awaited: a replay is as fast as its client.
    for (const live of this.#shared.live.all()) if (live.client.clean !== true) this.#catchUp(live, local)
  }

  async #writeSubscriptions ({ client, connection }: LiveClient): Promise<void> {
    const { limits } = this.#shared.ledger
    const args: (string | number)[] = [client.id, this.#shared.nodeId, connection, limits.sessionsPerTenantMax, limits.subscriptionsPerSessionMax]
    const subscriptions = Object.entries(client.subscriptions ?? {})
    if (subscriptions.length === 0) return
    for (const [filter, { qos }] of subscriptions) args.push(filter, encodeOptions({ qos }))
    await onTenant(this.#shared, client.id, subscribeScript, args)
  }

  /** Replays that ended early because Redis did not answer. */
  async catchUpBehind (local: LocalBroker): Promise<void> {
    for (const live of this.#shared.live.all()) {
      if (!live.behind || live.replaying || live.client.closed === true) continue
      await this.#outgoing.settle(live)
      this.#catchUp(live, local)
    }
  }

  #catchUp (live: LiveClient, local: LocalBroker): void {
    local.catchUp(live.client as unknown as ConnectedClient).catch((error: unknown) => {
      this.#shared.log.debug({ client: live.client.id, error: String(error) }, 'a session could not be replayed')
    })
  }

  async #each (all: readonly LiveClient[], work: (live: LiveClient) => Promise<void>): Promise<void> {
    for (let i = 0; i < all.length; i += concurrency) await Promise.all(all.slice(i, i + concurrency).map(work))
  }
}
