/** Ends at once what rests on something that was revoked: here, and through `announce` on the other nodes. */
import { isRevoked } from '../../gate/revocations.js'
import type { Revocation } from '../../store/revocation-log.js'
import type { EdgeContext } from './edge-context.js'

/** Cached decisions go, connections are cut. */
export function cutOff (context: EdgeContext, revocation: Revocation): void {
  const { authenticator, mqtt, announce } = context.options
  authenticator.forget(principal => isRevoked(revocation, principal))
  mqtt.disconnect(principal => isRevoked(revocation, principal))
  announce?.(revocation)
}
