/** A TwinfoldError loses its class and its code between threads, so a worker hands it over as a value. */
import { TwinfoldError, type ErrorCode } from './errors.js'

export type Outcome<T> =
  | { readonly result: T }
  | { readonly code: ErrorCode, readonly detail: string, readonly retryAfterMs: number | undefined }

/** In the worker. Other faults are thrown on. */
export async function outcomeOf<T> (action: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { result: await action() }
  } catch (error) {
    if (error instanceof TwinfoldError) return { code: error.code, detail: error.message, retryAfterMs: error.retryAfterMs }
    throw error
  }
}

/** On the main thread. @throws TwinfoldError as the worker met it. */
export function resultOf<T> (outcome: Outcome<T>): T {
  if ('result' in outcome) return outcome.result
  throw new TwinfoldError(outcome.code, outcome.detail, outcome.retryAfterMs === undefined ? {} : { retryAfterMs: outcome.retryAfterMs })
}
