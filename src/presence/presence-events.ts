/** `device.connected` and `device.disconnected` as they stand in the event log. Their ids come from the connection: a repeat has the same. */
import type { OutEvent } from '../store/event-log.js'
import type { Connected, Disconnected } from '../store/presence-store.js'

/** @param stamp when it is told, µs */
export function connectedEvent ({ tenant, device, connection, node, via, at, keepAliveSeconds }: Connected, stamp: number): OutEvent {
  const data = JSON.stringify({ connected: true, connection, node, via, at, keepAliveSeconds })
  return { id: `presence/${tenant}/${device}/${connection}/connected`, tenant, device, type: 'device.connected', stamp, data }
}

/** @param online the device has another connection, and stays connected */
export function disconnectedEvent ({ tenant, device, connection, at, reason }: Disconnected, { node, via }: Connected, online: boolean, stamp: number): OutEvent {
  const data = JSON.stringify({ connected: online, connection, node, via, at, reason })
  return { id: `presence/${tenant}/${device}/${connection}/disconnected`, tenant, device, type: 'device.disconnected', stamp, data }
}

export interface PresenceChange {
  readonly tenant: string
  readonly device: string
  /** After the event. */
  readonly connected: boolean
  /** When it was told, µs. */
  readonly at: number
}

/** What events say of connections, in their order. */
export function presenceChanges (events: readonly OutEvent[]): PresenceChange[] {
  return events.filter(({ type }) => type === 'device.connected' || type === 'device.disconnected').map(({ tenant, device, stamp, data }) => ({
    tenant, device, connected: (JSON.parse(data) as { readonly connected: boolean }).connected, at: stamp
  }))
}
