/**
 * Which devices a connection receives twins and commands for (src/twin/device-link.ts): its own, and for a gateway those of its
 * children that its filters name. Offered to the deliveries when the session is open, and anew whenever its filters for the device
 * have changed. Whether a child is this gateway's is the registry's to say; filters for one that is not (any more) are taken out of
 * the session, so that they reach nothing in the broker either. Presence is told of the same devices.
 *
 * Bounded by the filters of the sessions.
 */
import type { Log } from '../../core/log.js'
import type { PresenceSession, PresenceSink } from '../../presence/presence-sink.js'
import type { DisconnectReason } from '../../store/presence-store.js'
import type { Principal } from '../../tenancy/model.js'
import type { DeviceLink, DeviceSessions } from '../../twin/device-link.js'
import type { ClientSide } from './client-side.js'
import { Downstream, type Sent } from './downstream.js'
import type { TopicDirectory } from './topic-directory.js'
import { filterMatches } from './topic-grammar.js'

/** The registry is asked again after this long where it did not answer. */
const askAgainMs = 5000
/** Children of a gateway that it is asked about at a time. */
const askedAtOnceMax = 64

interface GrantedFilter { readonly filter: string, readonly qos: number }

/** The filters of a session that name the device, and what tells them from others. */
function filtersByDevice (connection: ClientSide): Map<string, GrantedFilter[]> {
  const found = new Map<string, GrantedFilter[]>([[connection.principal?.device as string, []]])
  const subscriptions = connection.client?.subscriptions ?? {}
  const prefix = `${connection.brokerPrefix}devices/`
  for (const filter in subscriptions) {
    if (!filter.startsWith(prefix)) continue
    const slash = filter.indexOf('/', prefix.length)
    if (slash === -1) continue
    const device = filter.slice(prefix.length, slash)
    const known = found.get(device)
    const granted = { filter: filter.slice(connection.brokerPrefix.length), qos: subscriptions[filter].qos }
    if (known === undefined) found.set(device, [granted])
    else known.push(granted)
  }
  return found
}

export class ConnectionLink implements DeviceLink, PresenceSession {
  readonly tenant: string
  readonly device: string
  readonly connection: string
  readonly keepAliveSeconds: number
  readonly via: string
  open = true
  readonly #connection: ClientSide
  #filters: readonly GrantedFilter[] = []
  #signature = ''

  constructor (connection: ClientSide, device: string) {
    this.tenant = connection.tenant
    this.device = device
    this.connection = connection.connectionId
    this.keepAliveSeconds = connection.keepAliveSeconds
    this.via = device === connection.principal?.device ? '' : connection.principal?.device as string
    this.#connection = connection
  }

  get lastHeardUs (): number { return this.#connection.lastHeardUs }

  grantedQos (topic: string): -1 | 0 | 1 {
    let granted: -1 | 0 | 1 = -1
    for (const { filter, qos } of this.#filters) {
      if (!filterMatches(filter, topic)) continue
      if (qos > 0) return 1
      granted = 0
    }
    return granted
  }

  send (topic: string, payload: Uint8Array, qos: 0 | 1): Promise<Sent> {
    if (!this.open) return Promise.resolve('lost')
    return (this.#connection.downstream ??= new Downstream(this.#connection)).send(topic, payload, qos)
  }

  /** False where nothing has changed. */
  granted (filters: readonly GrantedFilter[]): boolean {
    const signature = filters.map(({ filter, qos }) => `${filter} ${qos}`).sort().join('\n')
    if (signature === this.#signature) return false
    this.#signature = signature
    this.#filters = filters
    return true
  }
}

export interface DeviceLinksOptions {
  readonly sessions: readonly DeviceSessions[]
  readonly presence: PresenceSink | null
  readonly topics: TopicDirectory
  readonly log: Log
  /** Takes filters (relative to the tenant) out of the session, without an answer to the client. */
  readonly drop: (connection: ClientSide, filters: readonly string[]) => void
}

export class DeviceLinks {
  readonly #options: DeviceLinksOptions
  /** Connections that have named other devices than their own. */
  readonly #gateways = new Set<ClientSide>()
  /** Those of them that the registry is being asked about. */
  readonly #asking = new Set<ClientSide>()

  constructor (options: DeviceLinksOptions) { this.#options = options }

  /** The session is open and what it was subscribed to is restored. */
  opened (connection: ClientSide): void {
    if (connection.principal?.role !== 'device') return
    connection.links = new Map()
    this.#refresh(connection, true)
  }

  /** SUBACK or UNSUBACK has been queued. */
  changed (connection: ClientSide): void {
    if (connection.links !== null && !connection.destroyed) this.#refresh(connection, false)
  }

  ended (connection: ClientSide, reason: DisconnectReason): void {
    const { links } = connection
    if (links === null) return
    connection.links = null
    this.#gateways.delete(connection)
    for (const link of links.values()) this.#end(link, reason)
  }

  /** What the registry says about children may have changed; null: of any tenant, of any device. One question at a time. */
  async recheck (tenant: string | null, device: string | null): Promise<void> {
    const { topics, log } = this.#options
    for (const connection of [...this.#gateways]) {
      if (tenant !== null && connection.tenant !== tenant) continue
      for (const child of [...connection.links?.keys() ?? []]) {
        if (child === connection.principal?.device || (device !== null && child !== device)) continue
        try {
          await topics.ask(connection.principal as Principal, child)
        } catch (error) {
          log.debug({ tenant: connection.tenant, device: child, error: String(error) }, 'the registry did not say whose device it is')
        }
        if (connection.links !== null && topics.mayHear(connection.principal as Principal, child) === false) this.#refresh(connection, false)
      }
    }
  }

  #refresh (connection: ClientSide, first: boolean): void {
    const links = connection.links as Map<string, ConnectionLink>
    const { topics } = this.#options
    const principal = connection.principal as Principal
    const wanted = filtersByDevice(connection)
    if (wanted.size > 1) this.#gateways.add(connection)
    for (const link of [...links.values()]) {
      if (wanted.has(link.device)) continue
      links.delete(link.device)
      this.#end(link, 'client')
    }
    const unknown: string[] = []
    for (const [device, filters] of wanted) {
      const may = device === principal.device ? true : topics.mayHear(principal, device)
      const known = links.get(device)
      if (may === false) {
        if (known !== undefined) {
          links.delete(device)
          this.#end(known, 'revoked')
        }
        this.#options.drop(connection, filters.map(({ filter }) => filter))
        continue
      }
      if (may === undefined && known === undefined) unknown.push(device)
      if (may === true || known !== undefined) this.#offer(connection, links, device, filters, first)
    }
    if (unknown.length > 0 && !this.#asking.has(connection)) void this.#ask(connection, unknown)
  }

  #offer (connection: ClientSide, links: Map<string, ConnectionLink>, device: string, filters: readonly GrantedFilter[], first: boolean): void {
    let link = links.get(device)
    const made = link === undefined
    if (link === undefined) {
      links.set(device, link = new ConnectionLink(connection, device))
      this.#options.presence?.opened(link)
    }
    if (!link.granted(filters) && !made && !first) return
    for (const sessions of this.#options.sessions) sessions.ready(link)
  }

  /** Looks at the connection again when the registry has said whose the devices are. Never rejects. */
  async #ask (connection: ClientSide, devices: readonly string[]): Promise<void> {
    const { topics, log } = this.#options
    this.#asking.add(connection)
    let failure: unknown = null
    for (let i = 0; i < devices.length && failure === null && connection.links !== null; i += askedAtOnceMax) {
      await Promise.all(devices.slice(i, i + askedAtOnceMax).map(async device => {
        await topics.ask(connection.principal as Principal, device)
      })).catch((error: unknown) => { failure = error })
    }
    const again = (): void => {
      this.#asking.delete(connection)
      if (connection.links !== null) this.#refresh(connection, false)
    }
    if (failure === null) return again()
    log.debug({ tenant: connection.tenant, error: String(failure) }, 'the registry did not say whose devices they are')
    setTimeout(again, askAgainMs).unref()
  }

  #end (link: ConnectionLink, reason: DisconnectReason): void {
    link.open = false
    this.#options.presence?.closed(link, reason, link.lastHeardUs)
    for (const sessions of this.#options.sessions) sessions.ended(link)
  }
}
