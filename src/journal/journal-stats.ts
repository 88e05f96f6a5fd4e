/** Counters of the journal, plain numbers that a metrics endpoint can read at any time. */

/** Upper bounds of the commit latency buckets, milliseconds; one more bucket takes what is above. */
export const commitMsBounds: readonly number[] = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

export class JournalStats {
  /** Groups made durable. */
  commits = 0
  /** Durable records, marks included. */
  records = 0
  /** Durable bytes of records. */
  bytes = 0
  marks = 0
  segmentsOpened = 0
  segmentsReleased = 0
  /** Failed writes, opens and syncs together, and the syncs alone. */
  failures = 0
  syncFailures = 0
  /** Records whose waiter was told that they failed. */
  recordsFailed = 0
  /** Write and fdatasync of one group, milliseconds: the last one, all together, and counts by `commitMsBounds`. */
  commitMsLast = 0
  commitMsSum = 0
  readonly commitMsBuckets: number[] = new Array<number>(commitMsBounds.length + 1).fill(0)

  committed (records: number, bytes: number, commitMs: number): void {
    this.commits++
    this.records += records
    this.bytes += bytes
    this.commitMsLast = commitMs
    this.commitMsSum += commitMs
    let bucket = 0
    while (bucket < commitMsBounds.length && commitMs > commitMsBounds[bucket]) bucket++
    this.commitMsBuckets[bucket]++
  }
}
