/**
 * What the stores ask of Cassandra. All statements are prepared, routed by token to a replica of the local data centre, and
 * idempotent (so that they may be retried and tried elsewhere) except the conditional ones. No statement says USING TIMESTAMP:
 * which of two values counts is decided by accept stamps (DESIGN 3.8).
 *
 * Every method rejects with TwinfoldError `store_unavailable` when Cassandra does not answer in time, when too few replicas
 * live for the consistency asked for, and at once while the circuit is open.
 */
import type { Watched } from '../../dependency-status.js'

/** A row by column name. bigint columns come as JS numbers (all of ours are exact), blobs as Buffer, text as string, null as null. */
export type Row = Readonly<Record<string, unknown>>

export interface Statement {
  readonly cql: string
  readonly parameters: readonly unknown[]
}

export interface CassandraClient extends Watched {
  readonly keyspace: string
  /** All rows; for results that are bounded by their statement. */
  read(cql: string, parameters: readonly unknown[]): Promise<readonly Row[]>
  /**
   * The same at LOCAL_SERIAL: after a conditional statement whose outcome is unknown. It brings a half-done one to its end first;
   * an ordinary read may show nothing of one that shows later.
   */
  readSerial(cql: string, parameters: readonly unknown[]): Promise<readonly Row[]>
  /** Rows page by page: the next page is asked for when the last one is used up. */
  stream(cql: string, parameters: readonly unknown[], pageRows: number): AsyncIterable<Row>
  /** One page. `pageState` null: from the start; in the answer null: the end. */
  page(cql: string, parameters: readonly unknown[], pageRows: number, pageState: string | null): Promise<{ readonly rows: readonly Row[], readonly pageState: string | null }>
  /** Waits for room in the concurrency limit, which follows the latency. */
  write(cql: string, parameters: readonly unknown[]): Promise<void>
  /** Many independent writes, as many at once as the limit allows. Rejects with the first failure; others may have been written. */
  writeAll(statements: Iterable<Statement>): Promise<void>
  /** Writes of one partition as one unlogged batch: atomic, one round trip. At most 64 KiB together, by the caller. */
  writePartition(statements: readonly Statement[]): Promise<void>
  /**
   * A conditional statement (LOCAL_SERIAL). `applied` false: the condition did not hold, `row` says what is there. It is not
   * retried: when it rejects, its outcome is unknown, and the caller reads (`readSerial`) before it decides.
   */
  writeIf(cql: string, parameters: readonly unknown[]): Promise<{ readonly applied: boolean, readonly row: Row | null }>
  /** The same with further writes of the same partition, which are made where the condition holds: all of them or none. */
  writePartitionIf(statements: readonly Statement[]): Promise<{ readonly applied: boolean, readonly row: Row | null }>
  close(): Promise<void>
}
