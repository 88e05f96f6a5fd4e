/**
 * Telemetry in: a body becomes one journal record as it stands, and 202 is written when the record is durable
 * (INVARIANTS 1). What is wrong inside a body is found by the packers and kept in the dead-letter log (INVARIANTS 9).
 */
import { crc32c } from '@node-rs/crc32'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { httpBodyBytesMax } from '../../core/limits.js'
import { encodeIdentity, RecordFlags, type RecordKind } from '../../journal/record.js'
import { BodyReader } from './body-reader.js'
import { CommitReplies, sendAccepted } from './commit-replies.js'
import type { EdgeContext } from './edge-context.js'
import type { Admission } from './edge-types.js'
import { parseIdempotencyKey, readingsAtMost, type ClaimOutcome } from './idempotency-keys.js'
import { formatOf } from './media-type.js'
import { telemetryDocs } from './route-docs.js'
import { deviceNotFound, TelemetryAdmission } from './telemetry-admission.js'

const MIB = 1024 * 1024

type FirstClaim = ClaimOutcome & { readonly kind: 'first' }

export function telemetryRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { options, stats } = context
    const bodies = new BodyReader({
      bodyBytesMax: Math.min(options.bodyBytesMax ?? httpBodyBytesMax, httpBodyBytesMax),
      bodiesBytesMax: options.bodiesBytesMax ?? 256 * MIB,
      stats
    })
    const ingest = new Ingest(context, bodies)
    const admission = new TelemetryAdmission(context)
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', bodies.parse)
    // Bodies are documented, never validated here.
    app.setValidatorCompiler(() => () => true)
    app.post('/devices/:id/telemetry', { ...telemetryDocs.device, onRequest: admission.admit }, ingest.handle)
    app.post('/telemetry', { ...telemetryDocs.own, onRequest: admission.admit }, ingest.handle)
  }
}

class Ingest {
  readonly #context: EdgeContext
  readonly #bodies: BodyReader
  readonly #replies: CommitReplies

  constructor (context: EdgeContext, bodies: BodyReader) {
    this.#context = context
    this.#bodies = bodies
    this.#replies = new CommitReplies(context, bodies)
  }

  /** Not async: the reply is sent by the commit, and no promise is made on the way. */
  readonly handle = (request: FastifyRequest, reply: FastifyReply): void => {
    const body = request.body instanceof Buffer ? request.body : null
    const admission = request.admission as Admission
    try {
      if (body === null || body.length === 0) throw new TwinfoldError('invalid_request', 'the body is empty; send a reading such as {"temperature":21.3}')
      // Deleted while the body was on its way: its erasure must not be outrun.
      if (admission.device !== null && !admission.device.known) throw deviceNotFound(admission.device.id)
      const kind = formatOf(request.headers['content-type'])
      const key = request.headers['idempotency-key']
      if (key === undefined) {
        this.#append(admission, kind, admission.identity, body, reply, null)
      } else {
        this.#appendOnce(parseIdempotencyKey(key), admission, kind, body, reply).catch((error: unknown) => { this.#refuse(reply, body, error) })
      }
    } catch (error) {
      this.#refuse(reply, body, error)
    }
  }

  #append (admission: Admission, kind: RecordKind, identity: Buffer, body: Buffer, reply: FastifyReply, first: FirstClaim | null): void {
    const { presence, clock } = this.#context.options
    if (admission.device !== null) presence?.noteActivity(admission.tenant, admission.device.id, clock.nowUs())
    const flags = admission.device === null ? RecordFlags.multiDevice : 0
    if (first === null || first.stamp === null) this.#replies.append({ kind, flags, identity, body, messages: 1 }, reply, first === null ? null : first.claim)
    else this.#replies.append({ kind, flags: flags | RecordFlags.reserved, identity, body, messages: 1, stamp: first.stamp }, reply, first.claim)
  }

  async #appendOnce (key: string, admission: Admission, kind: RecordKind, body: Buffer, reply: FastifyReply): Promise<void> {
    const { tenant } = admission
    const device = admission.device?.id ?? ''
    const idempotencyKey = `${admission.credentialId}:${key}`
    // The same bytes for another device or in another format are another request.
    const fingerprint = `${crc32c(body, crc32c(`${device}\0${kind}`)).toString(16)}:${body.length}`
    const outcome = await this.#context.options.idempotency.claim(tenant, idempotencyKey, fingerprint, readingsAtMost(body))
    switch (outcome.kind) {
      case 'repeated':
        this.#bodies.release(body.length)
        this.#context.stats.idempotentReplays++
        void reply.header('idempotent-replayed', 'true')
        sendAccepted(reply, outcome.stamp)
        return
      case 'mismatch':
        throw new TwinfoldError('idempotency_mismatch', 'this Idempotency-Key was used with another body or device within 24 hours', { field: 'Idempotency-Key' })
      case 'throttled':
        throw new TwinfoldError('throttled', 'too many requests with an Idempotency-Key wait to be packed', { retryAfterMs: outcome.retryAfterMs })
    }
    try {
      if (admission.device !== null && !admission.device.known) throw deviceNotFound(device)
      const identity = encodeIdentity({ tenant, device, idempotencyKey, fingerprint })
      this.#append(admission, kind, identity, body, reply, outcome)
    } catch (error) {
      outcome.claim.abandoned()
      throw error
    }
  }

  #refuse (reply: FastifyReply, body: Buffer | null, error: unknown): void {
    if (body !== null) this.#bodies.release(body.length)
    void reply.send(error)
  }
}
