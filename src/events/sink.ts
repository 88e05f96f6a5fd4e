/** What a sink is to the machinery that delivers (sink-lane.ts): a webhook, or a tenant's MQTT topics. */
import type { OutEvent } from '../store/event-log.js'
import type { SinkStart } from './lane-state.js'
import type { RetryPolicy, Verdict } from './retry-policy.js'

export interface Sink {
  readonly tenant: string
  readonly id: string
  /** Grows when the definition changes: what waits for a next attempt is tried at once then. */
  readonly revision: number
  readonly start: SinkStart
  /** Paused: events wait in the log. */
  readonly paused: boolean
  readonly policy: RetryPolicy
  /** Events of one delivery. */
  readonly batchMax: number
  /** Is the event wanted? */
  readonly wants: (event: OutEvent) => boolean | Promise<boolean>
  /** Never rejects because of the sink; a rejection is a fault of ours and is tried again soon. */
  readonly deliver: (events: readonly OutEvent[]) => Promise<Verdict>
  /** It said that it wants nothing more. */
  readonly gone: (reason: string) => Promise<void>
}
