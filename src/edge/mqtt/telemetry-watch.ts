/**
 * Who listens to what devices say: counts of online subscriptions that can match `tenant/devices/{id}/telemetry` (or, in a watch of its
 * own, the topics of messages for the applier), and epochs that tell a publisher in one comparison that its cached answer still holds.
 * The fast path (journal only) is taken where nobody listens; a wrong "somebody" costs time only, a wrong "nobody" would lose a
 * delivery, so every change moves the epoch.
 *
 * Epochs are counters in a table of fixed size, found by hash: a collision makes an answer stale early, nothing else.
 */
import { hash32 } from '../../core/ids.js'
import { telemetryReach, type TopicReach } from './topic-grammar.js'

const slots = 4096

function change (counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by
  if (count > 0) counts.set(key, count)
  else counts.delete(key)
}

/** Told of subscriptions in broker form. */
export interface SubscriptionWatch {
  added (brokerFilter: string): void
  removed (brokerFilter: string): void
}

export function bothWatches (a: SubscriptionWatch, b: SubscriptionWatch): SubscriptionWatch {
  return {
    added: filter => { a.added(filter); b.added(filter) },
    removed: filter => { a.removed(filter); b.removed(filter) }
  }
}

export class TelemetryWatch implements SubscriptionWatch {
  readonly #tenants = new Map<string, number>()
  readonly #devices = new Map<string, number>()
  readonly #epochs = new Uint32Array(slots)
  readonly #reachOf: (brokerFilter: string) => TopicReach | null

  /** @param reachOf whose topics of the watched kind a filter can match */
  constructor (reachOf: (brokerFilter: string) => TopicReach | null = telemetryReach) { this.#reachOf = reachOf }

  /** A filter in broker form (`tenant/filter`) was subscribed to by a connection. */
  added (brokerFilter: string): void { this.#changed(brokerFilter, 1) }

  /** A connection no longer has the subscription. Each `added` is followed by one `removed` at most. */
  removed (brokerFilter: string): void { this.#changed(brokerFilter, -1) }

  #changed (brokerFilter: string, by: number): void {
    const reach = this.#reachOf(brokerFilter)
    if (reach === null) return
    if (reach.device === null) {
      change(this.#tenants, reach.tenant, by)
      this.#epochs[this.tenantSlot(reach.tenant)]++
    } else {
      change(this.#devices, `${reach.tenant}/${reach.device}`, by)
      this.#epochs[this.deviceSlot(reach.tenant, reach.device)]++
    }
  }

  /** Is a connection of this node subscribed to the device's topics? */
  online (tenant: string, device: string): boolean {
    return this.#tenants.has(tenant) || this.#devices.has(`${tenant}/${device}`)
  }

  tenantSlot (tenant: string): number { return hash32(tenant) & (slots - 1) }

  deviceSlot (tenant: string, device: string): number { return hash32(`${tenant}/${device}`) & (slots - 1) }

  /** Changes whenever a subscription to the device's topics comes or goes. */
  epoch (tenantSlot: number, deviceSlot: number): number {
    return this.#epochs[tenantSlot] + this.#epochs[deviceSlot]
  }
}
