/** Whether a device is connected, as the views of devices show it. */
import { TwinfoldError } from '../../core/errors.js'
import type { PresenceView } from '../../presence/presence-sink.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import type { Schema } from './schema-check.js'

const timeSchema: Schema = { type: ['string', 'null'], format: 'date-time' }

export const connectionSchema: Schema = {
  type: 'object',
  description: 'Absent where it could not be asked.',
  properties: {
    state: { type: 'string', enum: ['connected', 'disconnected'] },
    since: { ...timeSchema, description: 'When it connected, or when its last connection ended. null: it never had one.' },
    reason: { type: ['string', 'null'], description: 'Why the last connection ended: client, closed, keep_alive, taken_over, revoked, protocol, slow, server_stopped or node_lost. null while it is connected.' },
    lastActivity: { ...timeSchema, description: 'Last word of the device over MQTT or HTTP; up to two minutes old for one that is connected to another node.' },
    stale: { type: 'boolean', description: 'It was heard of before, but not for longer than TWINFOLD_STALE_AFTER_S.' },
    node: { type: ['string', 'null'], description: 'Server that it is or was connected to, where there are several.' },
    via: { type: ['string', 'null'], description: 'Gateway that speaks for it.' }
  }
}

export function connectionView ({ connected, since, reason, lastActivity, stale, node, via }: PresenceView): object {
  return { state: connected ? 'connected' : 'disconnected', since: timeOrNull(since), reason, lastActivity: timeOrNull(lastActivity), stale, node, via }
}

/** What is to stand in each device's view, in the order asked: nothing where presence is off or its store does not answer. */
export async function connectionsOf (context: EdgeContext, tenant: string, ids: readonly string[]): Promise<readonly { readonly connection?: object }[]> {
  const { presence } = context.options
  if (presence === undefined || ids.length === 0) return ids.map(() => ({}))
  try {
    return (await presence.view(tenant, ids)).map(view => ({ connection: connectionView(view) }))
  } catch (error) {
    if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
    return ids.map(() => ({}))
  }
}

function timeOrNull (us: number): string | null { return us === 0 ? null : isoTime(us) }
