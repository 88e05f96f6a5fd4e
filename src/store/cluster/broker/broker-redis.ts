/** What the parts of the cluster broker share: the connection, the keys, the limits, and who is connected here. */
import type { Log } from '../../../core/log.js'
import type { Ledger } from '../../broker/ledger.js'
import type { RedisConnection } from '../redis/open-redis.js'
import type { BrokerKeys } from './keys.js'
import type { LiveClients } from './live-clients.js'
import { call, type Argument, type Script } from './script.js'

export interface BrokerShared {
  readonly redis: RedisConnection
  readonly keys: BrokerKeys
  readonly ledger: Ledger
  readonly live: LiveClients
  readonly nodeId: string
  /** This node hears what others send it. While it does not, sessions wait for their replay. */
  readonly link: { up: boolean }
  readonly log: Log
}

/** Runs a script on the keys of the tenant that a client id, topic or filter belongs to. `store_unavailable` where Redis does not answer. */
export async function onTenant (shared: BrokerShared, text: string, script: Script, args: readonly Argument[]): Promise<unknown> {
  return await shared.redis.run(async client => await call(client, script, shared.keys.base(text), args))
}

/** Node and connection of a client that is connected here, '' and '' of one that is not. */
export function holderOf (shared: BrokerShared, clientId: string): readonly [string, string] {
  const live = shared.live.get(clientId)
  return live === undefined || live.client.clean === true ? ['', ''] : [shared.nodeId, live.connection]
}
