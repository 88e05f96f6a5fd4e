/**
 * Subscriptions to `devices/{id}/live` and `devices/{id}/live/{metric}` (`+` for all devices): normalised readings from the live hub
 * instead of messages of the broker. The latest values come first, as `{"latest":{metric:{"ts","value"}}}`, then `{"ts","values"}` of
 * every reading, times in milliseconds. QoS 0; they end with the connection, whatever the session keeps. A client that does not keep
 * up loses readings and gets `latest` again when it reads. Only these filters reach the topics: `#` and `devices/#` do not.
 */
import { isDeviceId } from '../../core/ids.js'
import { liveFilter } from '../../core/live-filter.js'
import type { LiveSource } from '../../live/live-hub.js'
import type { LiveSink, LiveSubscriber } from '../../live/live-subscriber.js'
import type { RegistryStore } from '../../store/registry.js'
import type { Principal } from '../../tenancy/model.js'
import type { ClientSide } from './client-side.js'
import { encodePublish } from './wire.js'

export interface LiveTopic {
  /** null: all of the tenant. */
  readonly device: string | null
  /** null: all. */
  readonly metric: string | null
}

/** null: not such a filter; `refused`: one that asks for what is not given. */
export function liveTopicOf (filter: string): LiveTopic | 'refused' | null {
  const match = /^devices\/([^/]+)\/live(?:\/(.*))?$/s.exec(filter)
  if (match === null) return null
  const [, device, metric] = match
  if (device !== '+' && !isDeviceId(device)) return 'refused'
  if (metric !== undefined && (metric === '' || /(^|\/)[+#](\/|$)/.test(metric))) return 'refused'
  return { device: device === '+' ? null : device, metric: metric ?? null }
}

/** Readings of one filter on their way to one connection. */
class ConnectionSink implements LiveSink {
  readonly #connection: ClientSide
  readonly #topicEnd: string
  #awaitsRoom = false
  subscriber: LiveSubscriber | null = null

  constructor (connection: ClientSide, metric: string | null) {
    this.#connection = connection
    this.#topicEnd = metric === null ? '/live' : `/live/${metric}`
  }

  get writable (): boolean {
    if (this.#connection.destroyed) return false
    if (this.#connection.hasRoom) return true
    if (!this.#awaitsRoom) {
      this.#awaitsRoom = true
      void this.#connection.room().then(() => {
        this.#awaitsRoom = false
        this.subscriber?.drained()
      })
    }
    return false
  }

  readings (device: string, text: string): void {
    const topic = `devices/${device}${this.#topicEnd}`
    for (let from = 0; from < text.length;) {
      const end = text.indexOf('\n', from)
      this.#publish(topic, text.slice(from, end))
      from = end + 1
    }
  }

  latest (device: string, latest: string): void {
    if (latest !== '{}') this.#publish(`devices/${device}${this.#topicEnd}`, `{"latest":${latest}}`)
  }

  #publish (topic: string, payload: string): void {
    this.#connection.deliverPlain(encodePublish(topic, Buffer.from(payload), 0, 0, false))
  }

  event (): void { /* MQTT has no place for it; what was left out comes as `latest`. */ }
  keepAlive (): void { /* MQTT has its own. */ }
  flush (): void { /* The connection is flushed at the end of the turn. */ }
  end (): void { this.subscriber = null }
}

export class LiveSubscriptions {
  readonly #source: LiveSource
  readonly #registry: Pick<RegistryStore, 'listDevices'>
  readonly #byConnection = new Map<ClientSide, Map<string, LiveSubscriber>>()

  constructor (source: LiveSource, registry: Pick<RegistryStore, 'listDevices'>) {
    this.#source = source
    this.#registry = registry
  }

  count (connection: ClientSide): number { return this.#byConnection.get(connection)?.size ?? 0 }

  /** False where a bound is reached. A filter that is there already begins anew. */
  subscribe (connection: ClientSide, filter: string, { device, metric }: LiveTopic): boolean {
    this.unsubscribe(connection, filter)
    const { tenant } = connection
    const sink = new ConnectionSink(connection, metric)
    try {
      sink.subscriber = this.#source.watch({
        principal: connection.principal as Principal,
        tenant,
        devices: device === null ? null : [device],
        latestOf: device === null ? async () => await this.#devicesOf(tenant) : [device],
        filter: liveFilter({ form: 'mqtt', times: 'ms', metrics: metric === null ? null : [metric] }),
        sink
      })
    } catch {
      return false
    }
    let filters = this.#byConnection.get(connection)
    if (filters === undefined) this.#byConnection.set(connection, filters = new Map())
    filters.set(filter, sink.subscriber)
    return true
  }

  /** The first devices of the tenant; of a larger one, none: then readings alone are given. */
  async #devicesOf (tenant: string): Promise<readonly string[]> {
    const page = await this.#registry.listDevices(tenant, null, this.#source.limits.devicesPerSubscriberMax)
    return page.next === null ? page.items.map(({ id }) => id) : []
  }

  unsubscribe (connection: ClientSide, filter: string): void {
    const filters = this.#byConnection.get(connection)
    const subscriber = filters?.get(filter)
    if (filters === undefined || subscriber === undefined) return
    filters.delete(filter)
    if (filters.size === 0) this.#byConnection.delete(connection)
    this.#source.end(subscriber)
  }

  /** The connection has ended. */
  end (connection: ClientSide): void {
    for (const filter of [...this.#byConnection.get(connection)?.keys() ?? []]) this.unsubscribe(connection, filter)
  }
}
