/** What follows from an attempt to deliver. Pure: time and randomness come in. */

/** What a sink said, or what kept it from saying anything. */
export type Answer =
  | { readonly kind: 'status', readonly status: number, /** Of Retry-After; null: none. */ readonly retryAfterMs: number | null }
  | { readonly kind: 'fault', readonly reason: string }

export type Verdict =
  | { readonly kind: 'delivered' }
  /** It may take the same delivery later. */
  | { readonly kind: 'again', readonly reason: string, readonly retryAfterMs: number | null }
  /** It will never take this delivery: tried a few times, then dead. */
  | { readonly kind: 'refused', readonly reason: string }
  /** It wants nothing more. */
  | { readonly kind: 'gone', readonly reason: string }

export interface RetryPolicy {
  readonly firstMs: number
  readonly longestMs: number
  /** How long a delivery is tried for. */
  readonly giveUpMs: number
  /** Attempts at one that is refused. */
  readonly refusedAttemptsMax: number
}

export const retryPolicyDefault: RetryPolicy = { firstMs: 5000, longestMs: 3_600_000, giveUpMs: 3 * 24 * 3_600_000, refusedAttemptsMax: 3 }

const againStatus = new Set([408, 409, 425, 429])

export function judge (answer: Answer): Verdict {
  if (answer.kind === 'fault') return { kind: 'again', reason: answer.reason, retryAfterMs: null }
  const { status, retryAfterMs } = answer
  if (status >= 200 && status < 300) return { kind: 'delivered' }
  const reason = `status ${status}`
  if (status === 410) return { kind: 'gone', reason }
  if (status >= 400 && status < 500 && !againStatus.has(status)) return { kind: 'refused', reason }
  // Redirects (never followed) and informational oddities are a target that is set up wrongly: it may be put right.
  return { kind: 'again', reason, retryAfterMs: status === 429 || status === 503 ? retryAfterMs : null }
}

/**
 * Milliseconds until the next attempt: doubling from the first, half of it random, so that sinks that failed together do not come back
 * together; never sooner than the sink asked for, never later than the longest.
 * @param attempts that have failed, at least 1
 * @param random in [0, 1)
 */
export function delayMs (policy: RetryPolicy, attempts: number, retryAfterMs: number | null, random: number): number {
  const full = Math.min(policy.longestMs, policy.firstMs * 2 ** Math.min(attempts - 1, 40))
  return Math.min(policy.longestMs, Math.max(full / 2 + random * full / 2, retryAfterMs ?? 0))
}

/** Retry-After (RFC 9110 section 10.2.3) in ms from now; null where it is absent or none. */
export function parseRetryAfter (text: string | undefined, nowMs: number): number | null {
  if (text === undefined) return null
  if (/^[0-9]{1,9}$/.test(text.trim())) return Number(text) * 1000
  // An HTTP date; Date.parse alone takes almost anything.
  const at = /^[A-Z][a-z]{2,8},? /.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs)
}
