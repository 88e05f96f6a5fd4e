/**
 * Keeps Aedes 1.2 from losing messages that wait for their write. Aedes numbers packets when they are published,
 * emits them when the persistence has answered, and a connected subscriber drops every packet with a number below the
 * last one it saw from the same broker id, taking it for a second copy (lib/client.js, dedupe). A QoS 1 message that
 * is overtaken by a QoS 0 one, or a retained one by any other, would never be delivered.
 *
 * So each of the four paths that a publish can take has a broker id of its own. Within one, the order of numbers is
 * the order of emission: enqueues resolve in the order of the calls, and so do stores of retained messages.
 */
import type { BrokerHandle, BrokerPacket } from './types.js'

export function separateOrders (broker: BrokerHandle): void {
  if (broker.publish === undefined || broker.on === undefined) return
  const publish = broker.publish
  const ids = ['/0', '/q', '/r0', '/rq'].map((path) => broker.id + path)
  broker.publish = function (packet: BrokerPacket, ...rest: unknown[]) {
    packet.brokerId = ids[(packet.retain ? 2 : 0) + (packet.qos > 0 ? 1 : 0)]
    return publish.call(broker, packet, ...rest)
  }
}
