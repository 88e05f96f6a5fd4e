/**
 * Keeps the databases that the threads of a process share open for as long as any thread uses them. With `multithreading`
 * all handles of a path share one LevelDB, but its block cache belongs to the handle that opened it first: closing that one
 * while others live leaves them a freed cache, and the process crashes. A worker thread can end at any time. So the owner
 * (the main thread's store) opens every database before anybody else and closes it after everybody else.
 *
 * The owner also mends a database that refuses writes, and takes one out of use that is to be dropped.
 */
import { TwinfoldError, type ErrorCode } from '../../core/errors.js'

/** One thread's view of the keeper. */
export interface Keeper {
  /** Keeps the database open until `release`. False when it does not exist and `create` is false. */
  hold(path: string, create: boolean): Promise<boolean>
  /** The caller has closed its handle. */
  release(path: string): void
  /** A write failed: the database may be damaged in memory; every thread has it mended before its next write. */
  suspect(path: string): void
  /** Mends a suspect database; rejects with `store_unavailable` where it still refuses writes. */
  repair(path: string): Promise<void>
  /** Told when handles of the path must be closed as soon as they are not in use. */
  onRetire: (path: string) => void
  onSuspected: (path: string) => void
  close(): Promise<void>
}

/** How long the owner waits for other threads to close a database before it gives up for now, milliseconds. */
export const retireWaitMs = 5000
/** How long a thread waits for the owner, milliseconds. */
export const ownerWaitMs = 30_000

/** Errors lose their class between threads. */
export function failureOf (error: unknown): { code: string, detail: string } {
  return error instanceof TwinfoldError ? { code: error.code, detail: error.message } : { code: 'store_unavailable', detail: (error as Error).message }
}

export function errorOf (failure: { code: string, detail: string }): TwinfoldError {
  return new TwinfoldError(failure.code as ErrorCode, failure.detail)
}
