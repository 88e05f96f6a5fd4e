/** What a step of the gate says of a connection, subscription or message: an expected outcome is a value. */
import type { ErrorCode } from '../core/errors.js'

export type GateOutcome =
  | { readonly kind: 'admitted' }
  | { readonly kind: 'throttled', readonly retryAfterMs: number }
  | { readonly kind: 'refused', readonly code: ErrorCode, readonly reason: string }

export const admitted: GateOutcome = { kind: 'admitted' }
