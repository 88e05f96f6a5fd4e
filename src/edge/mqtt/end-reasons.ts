/** Why a connection ended, from the names that the edge counts ends by to those that presence knows. */
import type { DisconnectReason } from '../../store/presence-store.js'

const reasons: ReadonlyMap<string, DisconnectReason> = new Map([
  ['keep_alive', 'keep_alive'],
  ['disconnected', 'revoked'],
  ['taken_over', 'taken_over'],
  ['outbound_bytes', 'slow'],
  ['outbound_stalled', 'slow'],
  ['unacknowledged', 'slow'],
  // The server could not go on with it; the client did nothing wrong.
  ['registry_unavailable', 'closed'],
  ['journal_unavailable', 'closed'],
  ['journal_order', 'closed'],
  ['broker_failed', 'closed']
])

/** What is not in the table is a breach of the protocol. */
export function disconnectReasonOf (reason: string): DisconnectReason {
  return reasons.get(reason) ?? 'protocol'
}
