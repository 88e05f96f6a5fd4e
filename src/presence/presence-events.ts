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
