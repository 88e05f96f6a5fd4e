/**
 * What the persistence sees of Aedes 1.2: the few fields of clients, packets and subscriptions that cross the
 * interface of aedes-persistence 11. Client ids, topics and filters arrive tenant-prefixed (`tenant/…`).
 */

/** A connected client, or a plain `{ id }` where Aedes has only that. */
export interface BrokerClient {
  readonly id: string
  readonly clean?: boolean
  readonly closed?: boolean
}

export interface BrokerSubscription {
  readonly topic: string
  readonly qos: number
  /** Retain handling, retain as published, no local: MQTT 5, undefined for 3.1.1. */
  readonly rh?: number
  readonly rap?: boolean
  readonly nl?: boolean
  readonly subscriptionIdentifier?: number
}

/** A subscription of a client, as `subscriptionsByTopic` answers it. */
export interface MatchedSubscription {
  readonly clientId: string
  readonly topic?: string
  readonly qos?: number
  readonly rh?: number
  readonly rap?: boolean
  readonly nl?: boolean
}

/** A publish, a will or a retained message. Fields that are not named here are kept for retained messages only. */
export interface BrokerPacket {
  cmd?: string
  topic: string
  payload: Buffer | string
  qos: number
  retain: boolean
  dup?: boolean
  brokerId?: string
  brokerCounter?: number
  messageId?: number
  clientId?: string
}

/** What waits in a session's queue: a publish, or the PUBREL that is left of one. */
export type QueuedPacket = BrokerPacket | { cmd: 'pubrel', messageId: number }

/** The part of Aedes that is used. The events are those of Aedes; a bare test broker has none. */
export interface BrokerHandle {
  readonly id: string
  counter: number
  readonly clients?: Readonly<Record<string, BrokerClient | undefined>>
  publish?(packet: BrokerPacket, ...rest: unknown[]): unknown
  on?(event: 'client' | 'clientDisconnect', listener: (client: BrokerClient) => void): unknown
  removeListener?(event: 'client' | 'clientDisconnect', listener: (client: BrokerClient) => void): unknown
}

/** The tenant of a client id, topic or filter: what stands before its first `/`. */
export function tenantOf (text: string): string {
  const slash = text.indexOf('/')
  return slash === -1 ? text : text.slice(0, slash)
}
