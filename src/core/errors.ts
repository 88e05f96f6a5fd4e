/**
 * The one table of errors that leave the server. A code is stable: clients, metrics, dead letters and
 * documents use it. `status` is the HTTP status it is answered with, `retryable` says whether the same
 * request may succeed later without being changed.
 */
export interface ErrorSpec {
  readonly status: number
  readonly retryable: boolean
  readonly title: string
}

const table = {
  unauthenticated: { status: 401, retryable: false, title: 'The request carries no valid credential' },
  forbidden: { status: 403, retryable: false, title: 'The credential does not allow this' },
  not_found: { status: 404, retryable: false, title: 'There is no such thing in this tenant' },
  already_exists: { status: 409, retryable: false, title: 'It exists already' },
  invalid_request: { status: 400, retryable: false, title: 'The request is malformed' },
  invalid_field: { status: 400, retryable: false, title: 'A field has a value that is not allowed' },
  unsupported_media_type: { status: 415, retryable: false, title: 'The content type is not accepted here' },
  precondition_failed: { status: 412, retryable: false, title: 'It was changed since, or a condition does not hold' },
  payload_too_large: { status: 413, retryable: false, title: 'The body is larger than the limit' },
  idempotency_mismatch: { status: 422, retryable: false, title: 'This Idempotency-Key was used with another body' },
  too_late: { status: 409, retryable: false, title: 'It has gone too far for this' },
  limit_reached: { status: 409, retryable: false, title: 'A documented limit is reached' },
  throttled: { status: 429, retryable: true, title: 'The server packs more slowly than is sent; slow down' },
  journal_unavailable: { status: 503, retryable: true, title: 'The journal cannot be written; nothing was accepted' },
  journal_full: { status: 503, retryable: true, title: 'The journal has reached its bound on disk' },
  store_unavailable: { status: 503, retryable: true, title: 'The store does not answer' },
  analytics_unavailable: { status: 503, retryable: true, title: 'The analytics store does not answer' },
  not_ready: { status: 503, retryable: true, title: 'The server is starting or stopping' },
  format_newer: { status: 500, retryable: false, title: 'The data was written by a newer version of Twinfold' },
  corrupt_data: { status: 500, retryable: false, title: 'Stored data failed its check' },
  internal: { status: 500, retryable: true, title: 'An unexpected fault' }
} as const satisfies Record<string, ErrorSpec>

export type ErrorCode = keyof typeof table

export const errorTable: Readonly<Record<ErrorCode, ErrorSpec>> = table

/** A fault with a code of the table. `detail` is for people and never holds another tenant's data. */
export class TwinfoldError extends Error {
  readonly code: ErrorCode
  /** The request field that is at fault, where there is one. */
  readonly field: string | undefined
  /** Milliseconds after which a retry makes sense, for retryable codes. */
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, detail: string, extra: { field?: string, retryAfterMs?: number, cause?: unknown } = {}) {
    super(detail, extra.cause === undefined ? undefined : { cause: extra.cause })
    this.name = 'TwinfoldError'
    this.code = code
    this.field = extra.field
    this.retryAfterMs = extra.retryAfterMs
  }
}
