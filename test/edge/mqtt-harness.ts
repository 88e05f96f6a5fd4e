/** Doubles and a byte-level client for the tests of the MQTT edge. */
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { MqttEdge, type MqttEdgeOptions } from '../../src/edge/mqtt/mqtt-edge.js'
import type { RefusedMessage } from '../../src/edge/mqtt/mqtt-context.js'
import { packetBytes } from '../../src/edge/mqtt/wire.js'
import { Authenticator, hashSecret } from '../../src/gate/authenticate.js'
import { Pressure } from '../../src/gate/pressure.js'
import type { AppendOptions, CommitWaiter, Journal, SegmentRef } from '../../src/journal/journal-types.js'
import { decodeIdentity, type RecordIdentity } from '../../src/journal/record.js'
import type { RegistryStore } from '../../src/store/registry.js'
import type { Credential, Device, Role, Tenant } from '../../src/tenancy/model.js'

export interface JournaledRecord {
  readonly kind: number
  readonly identity: RecordIdentity
  readonly flags: number
  readonly messages: number
  readonly body: Buffer
}

/** A journal in memory that commits when it is told to, or in the next turn. */
export class FakeJournal implements Journal {
  readonly journalId = '00000000000000aa'
  readonly records: JournaledRecord[] = []
  readonly unmarkedBytes = 0
  readonly durableEnd = 0
  readonly appendedEnd = 0
  readonly diskBytes = 0
  state: Journal['state'] = 'ok'
  /** Commits by itself, in the next turn. */
  automatic = true
  /** `append` throws this. */
  refusal: TwinfoldError | null = null
  #waiting: { waiter: CommitWaiter | null, token: number }[] = []
  #scheduled = false
  #stamp = 0

  append (options: AppendOptions, waiter: CommitWaiter | null, token: number): number {
    if (this.refusal !== null) throw this.refusal
    this.records.push({ kind: options.kind, identity: decodeIdentity(options.identity), flags: options.flags, messages: options.messages, body: Buffer.from(options.body) })
    this.#waiting.push({ waiter, token })
    if (this.automatic && !this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => { this.#scheduled = false; this.commit() })
    }
    this.#stamp += options.messages
    return this.#stamp
  }

  takeStamps (count: number): number { return (this.#stamp += count) - count + 1 }
  observeStamp (stampUs: number): void { this.#stamp = Math.max(this.#stamp, stampUs) }

  get waiting (): number { return this.#waiting.length }

  commit (count = Infinity): void {
    for (const { waiter, token } of this.#waiting.splice(0, Math.min(count, this.#waiting.length))) waiter?.committed(token)
  }

  fail (): void {
    const error = new TwinfoldError('journal_unavailable', 'the disk is gone')
    for (const { waiter, token } of this.#waiting.splice(0)) waiter?.failed(token, error)
  }

  mark (): Promise<null> { return Promise.resolve(null) }
  segmentsFor (): readonly SegmentRef[] { return [] }
  releaseBefore (): Promise<void> { return Promise.resolve() }

  /** Topics and payloads of all messages journaled so far. */
  messages (): { tenant: string, device: string, topic: string, payload: string, qos: number }[] {
    return this.records.flatMap(({ identity, body }) => publishesIn(body).map(publish => ({ tenant: identity.tenant, device: identity.device, ...publish })))
  }
}

/** The PUBLISH packets of a buffer of whole packets. */
export function publishesIn (bytes: Buffer): { topic: string, payload: string, qos: number, retain: boolean, packetId: number }[] {
  const publishes = []
  for (const packet of packetsIn(bytes)) {
    if (packet[0] >> 4 !== 3) continue
    let at = 1
    while (packet[at++] > 127);
    const topicEnd = at + 2 + packet.readUInt16BE(at)
    const qos = (packet[0] >> 1) & 3
    publishes.push({
      topic: packet.toString('utf8', at + 2, topicEnd),
      payload: packet.toString('utf8', qos > 0 ? topicEnd + 2 : topicEnd),
      qos,
      retain: (packet[0] & 1) === 1,
      packetId: qos > 0 ? packet.readUInt16BE(topicEnd) : 0
    })
  }
  return publishes
}

export function packetsIn (bytes: Buffer): Buffer[] {
  const packets: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const total = packetBytes(bytes, at, bytes.length)
    if (total < 0 || at + total > bytes.length) break
    packets.push(bytes.subarray(at, at += total))
  }
  return packets
}

/** Tenants, devices and credentials in memory; secrets are predictable. */
export class FakeRegistry {
  readonly devices = new Map<string, Device>()
  readonly #credentials = new Map<string, Credential>()
  readonly #tenants = new Map<string, Tenant>()
  deviceLookups = 0
  /** Look-ups of devices reject. */
  broken = false

  device (tenant: string, id: string, gatewayId: string | null = null): string {
    this.#tenants.set(tenant, { id: tenant, name: tenant, createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
    this.devices.set(`${tenant}/${id}`, { tenant, id, type: 'any', name: id, gateway: false, gatewayId, createdAt: 0 })
    return this.credential('device', tenant, id)
  }

  credential (role: Role, tenant: string | null, device: string | null = null): string {
    const prefix = role === 'device' ? 'twd_' : role === 'admin' ? 'twa_' : 'twk_'
    const secret = `${prefix}${role}-${tenant ?? 'platform'}-${device ?? 'none'}-0123456789`
    if (tenant !== null) this.#tenants.set(tenant, { id: tenant, name: tenant, createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
    this.#credentials.set(hashSecret(secret), { hash: hashSecret(secret), id: `c-${role}`, role, tenant, device, label: '', createdAt: 0 })
    return secret
  }

  getCredential (hash: string): Promise<Credential | null> { return Promise.resolve(this.#credentials.get(hash) ?? null) }
  getTenant (id: string): Promise<Tenant | null> { return Promise.resolve(this.#tenants.get(id) ?? null) }

  getDevice (tenant: string, id: string): Promise<Device | null> {
    this.deviceLookups++
    if (this.broken) return Promise.reject(new Error('the store is gone'))
    return Promise.resolve(this.devices.get(`${tenant}/${id}`) ?? null)
  }

  get store (): RegistryStore { return this as unknown as RegistryStore }
}

/** A clock that a test moves by hand. */
export class HandClock implements Clock {
  ms = 1000
  nowUs (): number { return this.ms * 1000 }
  monotonicMs (): number { return this.ms }
}

export interface Stage {
  readonly edge: MqttEdge
  readonly journal: FakeJournal
  readonly registry: FakeRegistry
  readonly pressure: Pressure
  readonly refused: RefusedMessage[]
  client (options?: ConnectOptions): Promise<RawClient>
  socket (): Promise<RawClient>
}

interface TestContext { teardown (close: () => Promise<unknown> | void): unknown }

export async function startStage (t: TestContext, extra: Partial<MqttEdgeOptions> = {}): Promise<Stage> {
  const journal = new FakeJournal()
  const registry = new FakeRegistry()
  const pressure = new Pressure()
  const refused: RefusedMessage[] = []
  const edge = new MqttEdge({
    host: '127.0.0.1',
    port: 0,
    webSocket: false,
    journal,
    registry: registry.store,
    authenticator: new Authenticator(registry.store, { leaseMs: 60_000, cachedMax: 10_000 }),
    pressure,
    persistence: undefined,
    clock: systemClock,
    log: silentLog,
    connectionsMax: 20_000,
    onRefused: message => { refused.push({ ...message, payload: Buffer.from(message.payload) }) },
    ...extra
  })
  await edge.open()
  const clients: RawClient[] = []
  t.teardown(async () => {
    for (const client of clients) client.end()
    journal.automatic = true
    journal.commit()
    await edge.close()
  })
  const socket = async (): Promise<RawClient> => {
    const client = new RawClient(connect(edge.port, '127.0.0.1'))
    clients.push(client)
    await client.connected
    return client
  }
  return {
    edge,
    journal,
    registry,
    pressure,
    refused,
    socket,
    client: async (options = {}) => {
      const client = await socket()
      client.send(connectPacket(options))
      const answer = await client.next()
      if (answer.compare(Buffer.from([0x20, 2, answer[2], 0])) !== 0) throw new Error(`CONNACK expected, got ${answer.toString('hex')}`)
      return client
    }
  }
}

/** A client that sends and reads raw packets. */
export class RawClient {
  readonly socket: Socket
  readonly connected: Promise<void>
  readonly packets: Buffer[] = []
  closed = false
  #bytes = Buffer.alloc(0)
  #wake: (() => void)[] = []

  constructor (socket: Socket) {
    this.socket = socket
    this.connected = new Promise((resolve, reject) => { socket.once('connect', resolve); socket.once('error', reject) })
    socket.on('data', bytes => {
      this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes])
      const packets = packetsIn(this.#bytes)
      this.packets.push(...packets)
      this.#bytes = this.#bytes.subarray(packets.reduce((sum, packet) => sum + packet.length, 0))
      this.#changed()
    })
    socket.on('error', () => {})
    socket.on('end', () => { this.closed = true; this.#changed() })
    socket.on('close', () => { this.closed = true; this.#changed() })
  }

  #changed (): void { for (const wake of this.#wake.splice(0)) wake() }

  send (...packets: Uint8Array[]): void { this.socket.write(Buffer.concat(packets)) }

  end (): void { this.socket.destroy() }

  /** The next packet, which is taken off `packets`; rejects when the server closes, or after `timeoutMs`. */
  async next (timeoutMs = 5000): Promise<Buffer> {
    await until(() => this.packets.length > 0 || this.closed, timeoutMs, 'a packet', this.#wake)
    const packet = this.packets.shift()
    if (packet === undefined) throw new Error('the server closed the connection')
    return packet
  }

  async take (count: number): Promise<Buffer> {
    const packets: Buffer[] = []
    for (let i = 0; i < count; i++) packets.push(await this.next())
    return Buffer.concat(packets)
  }

  async untilClosed (): Promise<void> { await until(() => this.closed, 5000, 'the end of the connection', this.#wake) }

  /** All packets that come until the answer to a PINGREQ sent now. */
  async settle (): Promise<Buffer[]> {
    this.send(Buffer.from([0xc0, 0]))
    const packets: Buffer[] = []
    for (;;) {
      const packet = await this.next()
      if (packet[0] === 0xd0) return packets
      packets.push(packet)
    }
  }
}

/** Waits until something holds; polls, or looks again when woken. */
export async function until (holds: () => boolean, timeoutMs = 5000, what = 'a condition', wakers?: (() => void)[]): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    if (wakers === undefined) await delay(2)
    else await Promise.race([new Promise<void>(resolve => { wakers.push(resolve) }), delay(50)])
  }
}

// Packets, written by hand and apart from the code under test

export function text (value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
}

export function packet (first: number, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  const length: number[] = []
  let rest = body.length
  do {
    length.push((rest % 128) | (rest > 127 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Buffer.concat([Buffer.from([first, ...length]), body])
}

export interface ConnectOptions {
  clientId?: string
  secret?: string
  userName?: string | null
  clean?: boolean
  keepAlive?: number
  will?: { topic: string, payload: string, qos?: number, retain?: boolean }
  level?: number
}

export function connectPacket (options: ConnectOptions = {}): Buffer {
  const { clientId = 'c1', secret = '', clean = true, keepAlive = 0, will, level = 4 } = options
  const userName = options.userName === undefined ? 'anything' : options.userName
  let flags = clean ? 2 : 0
  const parts = [text(clientId)]
  if (will !== undefined) {
    flags |= 4 | ((will.qos ?? 0) << 3) | (will.retain === true ? 0x20 : 0)
    parts.push(text(will.topic), text(will.payload))
  }
  if (userName !== null) {
    flags |= 0x80 | 0x40
    parts.push(text(userName), text(secret))
  }
  return packet(0x10, text(level === 3 ? 'MQIsdp' : 'MQTT'), Buffer.from([level, flags, keepAlive >> 8, keepAlive & 255]), ...parts)
}

export function publish (topic: string | Buffer, payload: string | Buffer, options: { qos?: number, id?: number, retain?: boolean, dup?: boolean } = {}): Buffer {
  const { qos = 0, id = 1, retain = false, dup = false } = options
  const first = 0x30 | (qos << 1) | (retain ? 1 : 0) | (dup ? 8 : 0)
  return packet(first, text(topic), qos > 0 ? Buffer.from([id >> 8, id & 255]) : Buffer.alloc(0), Buffer.from(payload))
}

export function subscribe (id: number, ...filters: readonly (readonly [string | Buffer, number])[]): Buffer {
  return packet(0x82, Buffer.from([id >> 8, id & 255]), ...filters.flatMap(([filter, qos]) => [text(filter), Buffer.from([qos])]))
}

export function unsubscribe (id: number, ...filters: string[]): Buffer {
  return packet(0xa2, Buffer.from([id >> 8, id & 255]), ...filters.map(text))
}

export const puback = (id: number): Buffer => Buffer.from([0x40, 2, id >> 8, id & 255])
export const pubrec = (id: number): Buffer => Buffer.from([0x50, 2, id >> 8, id & 255])
export const pubrel = (id: number): Buffer => Buffer.from([0x62, 2, id >> 8, id & 255])
export const pubcomp = (id: number): Buffer => Buffer.from([0x70, 2, id >> 8, id & 255])
export const pingreq = Buffer.from([0xc0, 0])
export const disconnect = Buffer.from([0xe0, 0])
