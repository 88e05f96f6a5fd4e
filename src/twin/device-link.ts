/**
 * Between the MQTT stage and what is sent to devices (DESIGN 3.6): twins and commands never enter the broker's queues; the stage sends
 * them to connections that subscribe to their topics, whichever filter matches (`devices/d1/#` too), in sessions that were kept as well.
 */

/** One connection, on behalf of one device: its own, or a gateway's for a child. */
export interface DeviceLink {
  readonly tenant: string
  readonly device: string
  /** Unique for every connection; sorts by time of connecting on one node. */
  readonly connection: string
  readonly open: boolean
  /** QoS that the session's filters grant for the topic (relative to the tenant); -1: not subscribed. */
  grantedQos (topic: string): -1 | 0 | 1
  /**
   * Hands a message to the socket, in the order of the calls; one at a time may be waited for or many.
   * `acked`: the client's PUBACK has come. `written`: QoS 0, in the socket's buffer. `lost`: the connection ended before; whether the
   * client got it is not known where bytes had left.
   */
  send (topic: string, payload: Uint8Array, qos: 0 | 1): Promise<'acked' | 'written' | 'lost'>
}

/** Who is told of connections. Methods are called on the main thread and must not throw. */
export interface DeviceSessions {
  /** The connection is accepted and what its session subscribes to is known; or what it subscribes to has changed. */
  ready (link: DeviceLink): void
  /** The connection has ended; `link.open` is false. */
  ended (link: DeviceLink): void
}

/** A question of a connected device that is answered to it alone: `twin/get`, `twin/NAME/get`. */
export interface TwinQuestions {
  /** JSON of the answer, `accepted` or `rejected`. Never rejects. */
  answer (tenant: string, device: string, name: string): Promise<{ readonly accepted: boolean, readonly body: string }>
}
