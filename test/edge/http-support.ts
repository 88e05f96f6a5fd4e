/** Doubles for the tests of the HTTP edge: ports kept in memory, a journal that commits when told, and ready-made credentials. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { InjectOptions } from 'fastify'
import type { Clock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { createHttpEdge, type HttpEdge, type HttpEdgeOptions } from '../../src/edge/http/http-edge.js'
import { IdempotencyKeys } from '../../src/edge/http/idempotency-keys.js'
import { Authenticator, newCredential } from '../../src/gate/authenticate.js'
import { Pressure } from '../../src/gate/pressure.js'
import type { AppendOptions, CommitWaiter, Journal } from '../../src/journal/journal-types.js'
import { decodeIdentity, type RecordIdentity } from '../../src/journal/record.js'
import type { DeadLetter } from '../../src/store/dead-letter-store.js'
import type { Page } from '../../src/store/registry.js'
import type { Erasure, IdempotencyRecord } from '../../src/store/small-stores.js'
import type { Store } from '../../src/store/store.js'
import type { Credential, Device, Principal, Role, Tenant } from '../../src/tenancy/model.js'
import type { QueryResult, QueryTask } from '../../workers/protocol.js'

export class ManualClock implements Clock {
  us = 1_750_000_000_000_000
  nowUs (): number { return this.us }
  monotonicMs (): number { return this.us / 1000 }
}

export interface Appended extends AppendOptions { readonly decoded: RecordIdentity }

/** Commits at the end of the turn, unless it is held or told to fail. */
export class MemoryJournal implements Pick<Journal, 'append' | 'appendedEnd' | 'takeStamps' | 'observeStamp'> {
  readonly records: Appended[] = []
  readonly pending: { waiter: CommitWaiter | null, token: number }[] = []
  held = false
  appendError: Error | null = null
  commitError: Error | null = null
  stamp = 1_750_000_000_000_000
  state: Journal['state'] = 'ok'

  append (options: AppendOptions, waiter: CommitWaiter | null, token: number): number {
    if (this.appendError !== null) throw this.appendError
    this.records.push({ ...options, body: Buffer.from(options.body), decoded: decodeIdentity(options.identity) })
    this.pending.push({ waiter, token })
    if (!this.held) setImmediate(() => { this.commit() })
    return options.stamp ?? ++this.stamp
  }

  get appendedEnd (): number { return this.records.length }
  takeStamps (count: number): number { return (this.stamp += count) - count + 1 }
  observeStamp (stampUs: number): void { this.stamp = Math.max(this.stamp, stampUs) }

  commit (): void {
    for (const { waiter, token } of this.pending.splice(0)) {
      if (this.commitError === null) waiter?.committed(token)
      else waiter?.failed(token, this.commitError)
    }
  }
}

function pageOf<T> (items: readonly T[], key: (item: T) => string, cursor: string | null, limit: number): Page<T> {
  const after = items.filter(item => cursor === null || key(item) > cursor)
  const page = after.slice(0, limit)
  return { items: page, next: after.length > limit ? key(page[page.length - 1]) : null }
}

const byKey = <T>(key: (item: T) => string) => (a: T, b: T): number => key(a) < key(b) ? -1 : 1

/** The parts of the store that the edge uses, with the contracts of their ports. */
export class MemoryStore {
  readonly tenants = new Map<string, Tenant>()
  readonly devices = new Map<string, Device>()
  readonly credentials = new Map<string, Credential>()
  readonly letters = new Map<string, DeadLetter>()
  readonly idempotency = new Map<string, IdempotencyRecord>()
  readonly erasures: Erasure[] = []
  getDeviceCalls = 0
  fault: Error | null = null

  async createTenant (tenant: Tenant): Promise<boolean> {
    if (this.tenants.has(tenant.id)) return false
    this.tenants.set(tenant.id, tenant)
    return true
  }

  async getTenant (id: string): Promise<Tenant | null> { return this.tenants.get(id) ?? null }
  async updateTenant (tenant: Tenant): Promise<void> { this.tenants.set(tenant.id, tenant) }
  async listTenants (cursor: string | null, limit: number): Promise<Page<Tenant>> {
    return pageOf([...this.tenants.values()].sort(byKey(item => item.id)), item => item.id, cursor, limit)
  }

  async createDevice (device: Device): Promise<boolean> {
    const key = `${device.tenant}\0${device.id}`
    if (this.devices.has(key)) return false
    this.devices.set(key, device)
    return true
  }

  async getDevice (tenant: string, id: string): Promise<Device | null> {
    this.getDeviceCalls++
    if (this.fault !== null) throw this.fault
    return this.devices.get(`${tenant}\0${id}`) ?? null
  }

  async updateDevice (device: Device): Promise<void> { this.devices.set(`${device.tenant}\0${device.id}`, device) }
  async deleteDevice (tenant: string, id: string): Promise<boolean> {
    for (const [hash, credential] of this.credentials) if (credential.tenant === tenant && credential.device === id) this.credentials.delete(hash)
    return this.devices.delete(`${tenant}\0${id}`)
  }

  async listDevices (tenant: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    return pageOf([...this.devices.values()].filter(item => item.tenant === tenant).sort(byKey(item => item.id)), item => item.id, cursor, limit)
  }

  async listDevicesOfGateway (tenant: string, gatewayId: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    return pageOf([...this.devices.values()].filter(item => item.tenant === tenant && item.gatewayId === gatewayId).sort(byKey(item => item.id)), item => item.id, cursor, limit)
  }

  async putCredential (credential: Credential): Promise<void> { this.credentials.set(credential.hash, credential) }
  async getCredential (hash: string): Promise<Credential | null> { return this.credentials.get(hash) ?? null }
  async listCredentials (tenant: string | null, cursor: string | null, limit: number): Promise<Page<Credential>> {
    return pageOf([...this.credentials.values()].filter(item => item.tenant === tenant).sort(byKey(item => item.id)), item => item.id, cursor, limit)
  }

  async deleteCredential (tenant: string | null, id: string): Promise<Credential | null> {
    for (const [hash, credential] of this.credentials) {
      if (credential.tenant !== tenant || credential.id !== id) continue
      this.credentials.delete(hash)
      return credential
    }
    return null
  }

  async listDeadLetters (tenant: string, filter: { reason?: string, device?: string }, cursor: string | null, limit: number): Promise<Page<DeadLetter>> {
    const items = [...this.letters.values()].filter(item => item.tenant === tenant && (filter.reason === undefined || item.reason === filter.reason) && (filter.device === undefined || item.device === filter.device))
      .sort((a, b) => a.id < b.id ? 1 : -1).filter(item => cursor === null || item.id < cursor)
    const page = items.slice(0, limit)
    return { items: page, next: items.length > limit ? page[page.length - 1].id : null }
  }

  async getDeadLetter (tenant: string, id: string): Promise<DeadLetter | null> { return this.letters.get(`${tenant}\0${id}`) ?? null }
  async deleteDeadLetters (tenant: string, ids: readonly string[]): Promise<number> { return ids.filter(id => this.letters.delete(`${tenant}\0${id}`)).length }
  async putIdempotency (records: readonly IdempotencyRecord[]): Promise<void> { for (const record of records) this.idempotency.set(`${record.tenant}\0${record.key}`, record) }
  async getIdempotency (tenant: string, key: string): Promise<IdempotencyRecord | null> { return this.idempotency.get(`${tenant}\0${key}`) ?? null }
  async dropIdempotencyBefore (): Promise<void> {}
  async claimIdempotency (_record: IdempotencyRecord): Promise<IdempotencyRecord | null> { return null }
  async putErasure (erasure: Erasure): Promise<void> { this.erasures.push(erasure) }

  device (tenant: string, id: string, more: Partial<Device> = {}): void {
    this.devices.set(`${tenant}\0${id}`, { tenant, id, type: '', name: '', gateway: false, gatewayId: null, createdAt: 0, ...more })
  }

  letter (tenant: string, id: string, more: Partial<DeadLetter> = {}): void {
    const payload = Buffer.from('{"temperature":')
    this.letters.set(`${tenant}\0${id}`, { tenant, id, stamp: Number(id.split('-')[0]), reason: 'json_invalid', detail: 'ends early', device: 'pump-1', source: 'http', format: 2, payload, payloadBytes: payload.length, ...more })
  }
}

/** Secrets by name. Tenants acme and bolt; acme has pump-1, pump-2, gate-1 (a gateway) and child-1 (of gate-1). */
export interface Keys {
  readonly admin: string
  readonly operator: string
  readonly application: string
  readonly viewer: string
  readonly device: string
  readonly gateway: string
  /** Of tenant bolt, which has bolt-1. */
  readonly foreignOperator: string
  readonly foreignDevice: string
}

export interface Bench {
  readonly edge: HttpEdge
  readonly store: MemoryStore
  readonly journal: MemoryJournal
  readonly pressure: Pressure
  readonly clock: ManualClock
  readonly idempotency: IdempotencyKeys
  readonly authenticator: Authenticator
  readonly keys: Keys
  readonly principals: Map<string, Principal>
  readonly queries: QueryTask[]
  queryResult: QueryResult | Error
  readonly streams: { stream: Duplex, request: IncomingMessage }[]
  /** Sessions that count as connected; `disconnect` removes them. */
  readonly sessions: Principal[]
  ready: { ready: boolean, reasons: string[] }
  call(method: string, url: string, options?: { key?: string, body?: unknown, headers?: Record<string, string>, remoteAddress?: string }): Promise<Answer>
}

export interface Answer {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers are looked into freely
  readonly json: any
}

interface Teardown { teardown(undo: () => unknown): unknown }

export async function bench (t: Teardown, more: Partial<HttpEdgeOptions> = {}): Promise<Bench> {
  const store = new MemoryStore()
  const journal = new MemoryJournal()
  const pressure = new Pressure()
  const clock = new ManualClock()
  const authenticator = new Authenticator(store as unknown as Store, { leaseMs: 10_000, cachedMax: 1000 })
  const idempotency = new IdempotencyKeys(store, { clock })
  for (const id of ['acme', 'bolt']) store.tenants.set(id, { id, name: id, createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
  for (const id of ['pump-1', 'pump-2']) store.device('acme', id)
  store.device('acme', 'gate-1', { gateway: true })
  store.device('acme', 'child-1', { gatewayId: 'gate-1' })
  store.device('bolt', 'bolt-1')
  const principals = new Map<string, Principal>()
  const key = (role: Role, tenant: string | null, device: string | null = null): string => {
    const { secret, credential } = newCredential(role, tenant, device, `${role} key`, clock.us)
    store.credentials.set(credential.hash, credential)
    principals.set(secret, { credentialId: credential.id, role, tenant, device })
    return secret
  }
  const keys: Keys = {
    admin: key('admin', null),
    operator: key('operator', 'acme'),
    application: key('application', 'acme'),
    viewer: key('viewer', 'acme'),
    device: key('device', 'acme', 'pump-1'),
    gateway: key('device', 'acme', 'gate-1'),
    foreignOperator: key('operator', 'bolt'),
    foreignDevice: key('device', 'bolt', 'bolt-1')
  }
  const queries: QueryTask[] = []
  const streams: Bench['streams'] = []
  const sessions: Principal[] = []
  const self = { queryResult: { body: new TextEncoder().encode('[]'), readings: 0, lastTs: null, more: false } as QueryResult | Error, ready: { ready: true, reasons: [] as string[] } }
  const edge = await createHttpEdge({
    host: '127.0.0.1',
    port: 0,
    journal: journal as unknown as Journal,
    store: store as unknown as Store,
    authenticator,
    tenants: { get: async id => await store.getTenant(id), forget: () => {} },
    pressure,
    queries: {
      run: async task => {
        queries.push(task)
        if (self.queryResult instanceof Error) throw self.queryResult
        return self.queryResult
      }
    },
    mqtt: {
      accept: (stream, request) => { streams.push({ stream, request }) },
      disconnect: wanted => {
        const gone = sessions.filter(wanted)
        for (const principal of gone) sessions.splice(sessions.indexOf(principal), 1)
        return gone.length
      }
    },
    readiness: () => self.ready,
    metrics: { render: async () => ({ contentType: 'text/plain; version=0.0.4', body: '# metrics\n' }) },
    idempotency,
    clock,
    log: silentLog,
    pressureWaitMs: 20,
    closeGraceMs: 500,
    ...more
  })
  t.teardown(async () => { await edge.close() })
  const call: Bench['call'] = async (method, url, { key: secret, body, headers = {}, remoteAddress } = {}) => {
    const raw = typeof body === 'string' || body instanceof Buffer || body === undefined
    const request: InjectOptions = {
      method: method as 'GET',
      url: url.startsWith('/') ? url : `/api/v1/${url}`,
      headers: { ...secret === undefined ? {} : { authorization: `Bearer ${secret}` }, ...raw ? {} : { 'content-type': 'application/json' }, ...headers },
      ...body === undefined ? {} : { payload: raw ? body : JSON.stringify(body) },
      ...remoteAddress === undefined ? {} : { remoteAddress }
    }
    const response = await edge.app.inject(request)
    const isJson = /json/.test(String(response.headers['content-type'] ?? ''))
    requireDocumented(edge, method, url, response.statusCode)
    return { status: response.statusCode, headers: response.headers, text: response.body, json: isJson && response.body !== '' ? JSON.parse(response.body) : undefined }
  }
  return Object.assign(self, { edge, store, journal, pressure, clock, idempotency, authenticator, keys, principals, queries, streams, sessions, call })
}

interface Document { readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly responses: Readonly<Record<string, unknown>> }>>>> }

/** Every answer that any test gets must be one that the OpenAPI document lists for its route. */
function requireDocumented (edge: HttpEdge, method: string, url: string, status: number): void {
  const path = (url.startsWith('/') ? url : `/api/v1/${url}`).split('?')[0]
  const { paths } = edge.app.swagger() as unknown as Document
  const template = Object.keys(paths).sort((a, b) => a.split('{').length - b.split('{').length)
    .find(name => new RegExp(`^${name.replace(/\{[^}]+\}/g, '[^/]+')}$`).test(path) && paths[name][method.toLowerCase()] !== undefined)
  if (template === undefined) return
  if (!(String(status) in paths[template][method.toLowerCase()].responses)) throw new Error(`${method} ${template} answered ${status}, which its document does not list`)
}
