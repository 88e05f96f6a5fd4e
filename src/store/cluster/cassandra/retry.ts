/**
 * When a statement is tried again inside the driver: idempotent ones only, on the next replica's node, twice at most. What is
 * not idempotent (a conditional write) is never tried again: its outcome is unknown and the caller has to read.
 */
import { policies, type ExecutionOptions, type types } from 'cassandra-driver'

const { RetryPolicy } = policies.retry
type Decision = policies.retry.DecisionInfo

interface Operation { readonly nbRetry: number, readonly executionOptions: ExecutionOptions }

export class IdempotentRetry extends RetryPolicy {
  readonly #retriesMax: number

  /** @param retriesMax tries after the first one, 0 to 10. */
  constructor (retriesMax = 2) {
    super()
    this.#retriesMax = retriesMax
  }

  override onUnavailable (info: policies.retry.OperationInfo): Decision {
    return this.#onNextHost(info as unknown as Operation)
  }

  override onReadTimeout (info: policies.retry.OperationInfo): Decision {
    return this.#onNextHost(info as unknown as Operation)
  }

  override onWriteTimeout (info: policies.retry.OperationInfo): Decision {
    return this.#onNextHost(info as unknown as Operation)
  }

  /** Client time-out, broken connection, overloaded or starting node. */
  override onRequestError (info: policies.retry.OperationInfo): Decision {
    return this.#onNextHost(info as unknown as Operation)
  }

  #onNextHost ({ nbRetry, executionOptions }: Operation): Decision {
    if (nbRetry >= this.#retriesMax || executionOptions.isIdempotent() !== true) return this.rethrowResult()
    // No consistency: the same one again, which the driver's types do not let one say.
    return this.retryResult(undefined as unknown as types.consistencies, false)
  }
}
