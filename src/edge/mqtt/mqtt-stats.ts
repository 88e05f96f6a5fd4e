/** What the MQTT edge counts. Plain numbers that only grow, unless said otherwise; the metrics endpoint reads them. */

/** Upper bounds in milliseconds of the buckets of the acknowledgement latency; the last bucket has no bound. */
export const ackLatencyBoundsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] as const

/** Distinct reasons are names from the code, so the maps are bounded. */
export type CountByReason = Map<string, number>

export class MqttStats {
  /** Open sockets now. */
  connections = 0
  /** Authenticated connections now. */
  sessions = 0
  /** Accepted CONNECTs. */
  connects = 0
  /** CONNECTs and sockets that were turned away, by reason. */
  readonly refusedConnects: CountByReason = new Map()
  /** Connections that the server closed, by reason: protocol faults, slowness, keep-alive. */
  readonly closed: CountByReason = new Map()
  /** PUBLISH packets received, telemetry too. */
  publishes = 0
  telemetryMessages = 0
  /** Bytes of the PUBLISH packets journaled. */
  telemetryBytes = 0
  /** Reported state, answers to commands and events journaled for the applier. */
  deviceMessages = 0
  /** Records appended to the journal. */
  journalRecords = 0
  /** Acknowledged but dropped publishes, and refused filters, by reason (INVARIANTS 9). */
  readonly refused: CountByReason = new Map()
  /** PUBLISH packets written to subscribers. */
  delivered = 0
  /** QoS 0 messages dropped because their subscriber did not read. */
  droppedQos0 = 0
  /** Telemetry that reached the journal and this node's subscribers, but neither queues nor other nodes: Redis was away. */
  telemetryLocalOnly = 0
  /** Connections closed because they did not read or not acknowledge. */
  slowClosed = 0
  /** Acknowledgements written. */
  acks = 0
  /** Messages by time from their socket read to the durable commit; bounds: `ackLatencyBoundsMs`. */
  readonly ackLatencyCounts: number[] = new Array<number>(ackLatencyBoundsMs.length + 1).fill(0)
  ackLatencySumMs = 0

  observeAckLatency (latencyMs: number, messages: number): void {
    let bucket = 0
    while (bucket < ackLatencyBoundsMs.length && latencyMs > ackLatencyBoundsMs[bucket]) bucket++
    this.ackLatencyCounts[bucket] += messages
    this.ackLatencySumMs += latencyMs * messages
  }
}

export function countReason (counts: CountByReason, reason: string): void {
  counts.set(reason, (counts.get(reason) ?? 0) + 1)
}
