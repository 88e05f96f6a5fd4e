/** What a server says of a service that it leans on: Cassandra, Redis, ClickHouse. */

/** `up`: calls go through. `slow`: they do, but calls have been waiting for room lately. `down`: it is known not to answer. */
export type DependencyState = 'up' | 'slow' | 'down'

export interface DependencyStatus {
  readonly name: string
  readonly state: DependencyState
  /** Why it is not up, for people; '' when it is. */
  readonly reason: string
  /** Monotonic milliseconds since which it is in that state. */
  readonly sinceMs: number
  readonly calls: number
  readonly failures: number
  /** Refused without being tried: the circuit was open, or the bulkhead full. */
  readonly rejected: number
  readonly running: number
  readonly waiting: number
}

export interface Watched {
  status(): DependencyStatus
}

const worse: Readonly<Record<DependencyState, number>> = { up: 0, slow: 1, down: 2 }

/** One entry a service: a process may have several connections to one. The worst state stands, counts are added up. */
export function joinDependencies (statuses: readonly DependencyStatus[]): DependencyStatus[] {
  const joined = new Map<string, DependencyStatus>()
  for (const status of statuses) {
    const known = joined.get(status.name)
    if (known === undefined) {
      joined.set(status.name, status)
      continue
    }
    const { state, reason, sinceMs } = worse[status.state] > worse[known.state] ? status : known
    joined.set(status.name, {
      name: status.name,
      state,
      reason,
      sinceMs,
      calls: known.calls + status.calls,
      failures: known.failures + status.failures,
      rejected: known.rejected + status.rejected,
      running: known.running + status.running,
      waiting: known.waiting + status.waiting
    })
  }
  return [...joined.values()]
}
