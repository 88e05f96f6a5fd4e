/**
 * CONNECT: the stage authenticates, decides on the will, and only then makes a session of the broker, so that a
 * stranger costs a socket and at most `mqttConnectBytesMax`. The broker sees the client id as
 * `{tenant}/{device or ~credential}/{client id}`: it keys sessions and takeovers by it, so equal ids of two tenants, or
 * of two principals of one tenant, never meet.
 */
import { deviceIdCharsMax } from '../../core/limits.js'
import type { Principal } from '../../tenancy/model.js'
import { readConnect, type ConnectRequest } from './control-packets.js'
import { ConnectionState } from './client-side.js'
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttContext } from './mqtt-context.js'
import { Intake } from './publish-intake.js'
import { TopicKind } from './topic-directory.js'
import { encodeConnect, ReturnCode, type Will } from './wire.js'

const secretPattern = /^tw[dka]_/

/** The secret is the password where it looks like one, else the user name; null where neither does. */
function secretOf (request: ConnectRequest): string | null {
  if (request.password !== null && secretPattern.test(request.password)) return request.password
  if (request.userName !== null && secretPattern.test(request.userName)) return request.userName
  return null
}

/** The first packet of a connection. */
export function connectReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const request = readConnect(packet)
  if (request.kind === 'fault') {
    connection.fault(request.reason, packet)
    return Intake.stopped
  }
  if (request.kind === 'refused') {
    connection.refuse(request.returnCode, request.reason)
    return Intake.stopped
  }
  if (context.pressure.level === 'refuse') {
    connection.refuse(ReturnCode.serverUnavailable, 'journal_unavailable')
    return Intake.stopped
  }
  const secret = secretOf(request)
  if (secret === null) {
    connection.refuse(ReturnCode.badUserNameOrPassword, 'credential_absent')
    return Intake.stopped
  }
  connection.state = ConnectionState.authenticating
  const cached = context.authenticator.cached(secret)
  if (cached !== undefined) return authenticated(context, connection, request, cached)
  context.authenticator.authenticate(secret).then(
    principal => { authenticated(context, connection, request, principal) },
    (error: unknown) => {
      context.log.warn({ error: String(error) }, 'a credential could not be checked')
      connection.refuse(ReturnCode.serverUnavailable, 'registry_unavailable')
    }
  )
  return Intake.holdRest
}

function authenticated (context: MqttContext, connection: MqttConnection, request: ConnectRequest, principal: Principal | null): number {
  if (connection.destroyed) return Intake.stopped
  if (principal === null) {
    connection.refuse(ReturnCode.notAuthorized, 'credential_unknown')
    return Intake.stopped
  }
  if (principal.tenant === null || (principal.role === 'device' && (principal.device === null || principal.device.length > deviceIdCharsMax))) {
    connection.refuse(ReturnCode.notAuthorized, 'no_tenant')
    return Intake.stopped
  }
  if (request.will === null) admit(context, connection, request, principal, null)
  else decideWill(context, connection, request, principal, request.will, true)
  return connection.destroyed ? Intake.stopped : Intake.holdRest
}

/** A will is a publish to come: what its sender may not publish now is refused with the CONNECT. */
function decideWill (context: MqttContext, connection: MqttConnection, request: ConnectRequest, principal: Principal, will: Will, mayAsk: boolean): void {
  if (connection.destroyed) return
  const decision = context.topics.decide(principal, Buffer.from(will.topic), context.wheel.tick)
  if ('ask' in decision) {
    if (!mayAsk) return connection.refuse(ReturnCode.serverUnavailable, 'registry_unavailable')
    context.topics.ask(principal, decision.ask).then(
      () => { decideWill(context, connection, request, principal, will, false) },
      () => { connection.refuse(ReturnCode.serverUnavailable, 'registry_unavailable') }
    )
    return
  }
  if (decision.kind === TopicKind.refused || decision.kind === TopicKind.question) return connection.refuse(ReturnCode.notAuthorized, 'will_forbidden')
  admit(context, connection, request, principal, { ...will, topic: decision.brokerTopic })
}

function admit (context: MqttContext, connection: MqttConnection, request: ConnectRequest, principal: Principal, will: Will | null): void {
  const { broker, emissions } = context
  const tenant = principal.tenant as string
  const clientId = request.clientId === '' ? `auto-${context.newId()}` : request.clientId
  const sessionId = `${tenant}/${principal.device ?? `~${principal.credentialId}`}/${clientId}`
  connection.admitted(principal, sessionId, request)
  emissions.adopt(connection, broker.handle(connection.asStream))
  connection.feed(encodeConnect(sessionId, request.clean, will))
}
