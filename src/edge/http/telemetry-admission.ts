/**
 * Everything about a telemetry request that is settled before a byte of its body is read: who, for which device, in which
 * format, and whether the journal takes anything now. All of it is answered from caches without a promise in the usual case.
 */
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { LRUCache } from 'lru-cache'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { encodeIdentity } from '../../journal/record.js'
import type { Role } from '../../tenancy/model.js'
import { authorize, authorizeNow } from './authorize.js'
import type { DeviceEntry } from './device-directory.js'
import type { EdgeContext } from './edge-context.js'
import type { Admission, Caller } from './edge-types.js'
import { formatOf, requirePlain } from './media-type.js'

const senders: readonly Role[] = ['operator', 'application', 'device']

/** The same words whether the device exists nowhere, in another tenant, or is another's (INVARIANTS 7). */
export function deviceNotFound (id: string): TwinfoldError {
  return new TwinfoldError('not_found', `no device '${id}' is registered that this credential may use; create it with POST /api/v1/devices`)
}

export class TelemetryAdmission {
  readonly #context: EdgeContext
  readonly #waitMs: number
  readonly #waitersMax: number
  /** Identities of multi-device batches by tenant. */
  readonly #batchIdentities = new LRUCache<string, Buffer>({ max: 1000 })

  constructor (context: EdgeContext) {
    this.#context = context
    this.#waitMs = context.options.pressureWaitMs ?? 5000
    this.#waitersMax = context.options.pressureWaitersMax ?? 1000
  }

  /** onRequest hook of the telemetry routes. */
  readonly admit = (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void => {
    const { stats } = this.#context
    stats.requests++
    stats.telemetryRequests++
    try {
      if (this.#context.closing) throw new TwinfoldError('not_ready', 'the server is stopping', { retryAfterMs: 1000 })
      const caller = authorizeNow(this.#context, request, senders)
      const admission = caller === undefined ? undefined : this.#admitNow(caller, request)
      if (admission === undefined) {
        this.#admitLater(request).then(() => { this.#settle(request, reply, done) }, done)
        return
      }
      request.caller = caller as Caller
      request.admission = admission
    } catch (error) {
      done(error as Error)
      return
    }
    this.#settle(request, reply, done)
  }

  /** The target from the caches; undefined where the registry must be asked. */
  #admitNow (caller: Caller, request: FastifyRequest): Admission | undefined {
    const tenant = caller.tenant as string
    const target = this.#target(caller, request)
    if (target === null) return this.#batch(caller)
    const device = this.#context.devices.cached(tenant, target)
    if (device === undefined) return undefined
    if (caller.role !== 'device' || caller.principal.device === target) return this.#single(caller, device)
    const gateway = this.#context.devices.cached(tenant, caller.principal.device as string)
    return gateway === undefined ? undefined : this.#child(caller, gateway, device)
  }

  async #admitLater (request: FastifyRequest): Promise<void> {
    const caller = await authorize(this.#context, request, senders, 'tenant')
    const tenant = caller.tenant as string
    const target = this.#target(caller, request)
    let admission: Admission
    if (target === null) {
      admission = this.#batch(caller)
    } else {
      const device = await this.#context.devices.find(tenant, target)
      admission = caller.role !== 'device' || caller.principal.device === target
        ? this.#single(caller, device)
        : this.#child(caller, await this.#context.devices.find(tenant, caller.principal.device as string), device)
    }
    request.caller = caller
    request.admission = admission
  }

  /** The device that the request speaks for; null for a batch that names them itself. */
  #target (caller: Caller, request: FastifyRequest): string | null {
    const { id } = request.params as { id?: string }
    if (id === undefined) return caller.role === 'device' ? caller.principal.device : null
    if (!isDeviceId(id)) throw deviceNotFound(String(id).slice(0, 128))
    return id
  }

  #batch (caller: Caller): Admission {
    const tenant = caller.tenant as string
    let identity = this.#batchIdentities.get(tenant)
    if (identity === undefined) {
      identity = encodeIdentity({ tenant, device: '', idempotencyKey: '', fingerprint: '' })
      this.#batchIdentities.set(tenant, identity)
    }
    return { credentialId: caller.principal.credentialId, tenant, device: null, identity }
  }

  #single (caller: Caller, device: DeviceEntry): Admission {
    if (!device.known) throw deviceNotFound(device.id)
    return { credentialId: caller.principal.credentialId, tenant: caller.tenant as string, device, identity: device.identity }
  }

  #child (caller: Caller, gateway: DeviceEntry, device: DeviceEntry): Admission {
    if (!gateway.known || !gateway.gateway || device.gatewayId !== gateway.id) throw deviceNotFound(device.id)
    return this.#single(caller, device)
  }

  /** The rest: format, then pressure. */
  #settle (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    try {
      requirePlain(request.headers['content-encoding'])
      formatOf(request.headers['content-type'])
      const { level } = this.#context.options.pressure
      if (level === 'refuse') throw new TwinfoldError('journal_unavailable', 'the journal takes nothing at present; nothing was accepted', { retryAfterMs: 5000 })
      if (level === 'slow') { this.#wait(reply, done); return }
    } catch (error) {
      done(error as Error)
      return
    }
    done()
  }

  /** INVARIANTS 10: a sender is slowed first, by waiting with its body unread, and only then told to come later. */
  #wait (reply: FastifyReply, done: HookHandlerDoneFunction): void {
    const { stats, options: { pressure } } = this.#context
    const tooSlow = new TwinfoldError('throttled', 'readings are packed more slowly than they are sent; nothing was accepted, send again later', { retryAfterMs: 2000 })
    if (stats.pressureWaiting >= this.#waitersMax) { done(tooSlow); return }
    stats.pressureWaits++
    stats.pressureWaiting++
    const finish = (error?: TwinfoldError): void => {
      clearTimeout(timer)
      withdraw()
      reply.raw.removeListener('close', gone)
      stats.pressureWaiting--
      done(error)
    }
    const gone = (): void => { finish(tooSlow) }
    const timer = setTimeout(() => { finish(tooSlow) }, this.#waitMs)
    const withdraw = pressure.whenOpen(() => { finish() })
    reply.raw.on('close', gone)
  }
}
