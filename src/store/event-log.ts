/**
 * Port: the durable outbox of what happened, for webhooks, streams, MQTT subscribers and the search projection (DESIGN 3.6). Events of
 * one device are in one lane, in the order they happened in; they are kept `eventsKeptUs`, read or not, so a sink that is away for less
 * loses nothing. An event may be there more than once (a repeat after a crash), always with the same id.
 */

export type OutEventType =
  | 'twin.created' | 'twin.changed' | 'twin.deleted'
  | 'device.connected' | 'device.disconnected' | 'device.event'
  | 'command.changed'
  | 'alarm.raised' | 'alarm.acknowledged' | 'alarm.cleared'
  | 'deadletter.added'

export interface OutEvent {
  /** Unique, and the same for a repeat; ASCII, at most 256 characters. */
  readonly id: string
  readonly tenant: string
  /** '' where it is of no device. */
  readonly device: string
  readonly type: OutEventType
  /** When it happened, accept stamp, µs. */
  readonly stamp: number
  /** JSON object, at most 256 KiB. */
  readonly data: string
  /** Events of a sequence (the versions of a twin) are told in the order of these numbers. Absent: in order of stamp. */
  readonly sequence?: { readonly of: string, readonly number: number }
}

/** Events are spread over so many lanes by tenant and device. */
export const eventLanes = 16
export const eventsKeptUs = 7 * 24 * 3600 * 1e6
/** One read stops behind so much. */
export const eventsReadBytesMax = 4 * 1024 * 1024

export interface LoggedEvent {
  /** Sorts as text; opaque. */
  readonly position: string
  readonly event: OutEvent
}

export interface EventLog {
  /** Survives SIGKILL when it resolves. Events of one lane are read in the order of this process's calls, whether it waited for them or not. */
  appendEvents(events: readonly OutEvent[]): Promise<void>
  /**
   * Events of the lane after the position ('' for the oldest kept), ascending, at most `limit` and about `eventsReadBytesMax` (more where
   * more belong before one event), and the position to go on from. It moves on with each page, and where there are no events too: few
   * events, or none, do not mean that it was the end. What was appended before is there at once (embedded), or after `settleMs` (cluster).
   * Events of one sequence that nodes told of in another order, as their clocks differ, come in the order of their numbers, on whatever
   * page they stand, and some of them again later: a number that is not greater than the last one is a repeat. An event's own position is
   * always one from which nothing behind it here is missed; of those that were put before another, it is that of the event before them.
   * @throws TwinfoldError `invalid_field` for what is no position
   */
  readEvents(lane: number, after: string, limit: number): Promise<{ readonly events: readonly LoggedEvent[], readonly position: string }>
  /** The position after everything that can be read now: where a new reader begins that wants no past. */
  endOfEvents(lane: number): Promise<string>
  /** A position before the first event at or after the stamp; up to six seconds of earlier events may lie behind it too. */
  positionAt(lane: number, stampUs: number): string
  /** How long an appended event may take until every reader sees it, ms. */
  readonly settleMs: number
  /** Takes away what is older than `eventsKeptUs`; called now and then by one node. */
  trimEvents(nowUs: number): Promise<void>
  /** Told of lanes that this process appended to, when it can be read; for readers that wait. Returns how to stop. */
  onAppended(listener: (lanes: ReadonlySet<number>) => void): () => void
}

/** FNV-1a of tenant and device, so that every node finds the same lane. */
export function laneOf (tenant: string, device: string): number {
  let hash = 0x811c9dc5
  for (const text of [tenant, '\0', device]) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  }
  return hash % eventLanes
}
