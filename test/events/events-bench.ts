/** What the suites of events share: a receiver of webhooks that behaves as it is told, events on an embedded store, and made-up events. */
import { createHmac } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { Events, type EventsOptions } from '../../src/events/events.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import type { OutEvent } from '../../src/store/event-log.js'

interface Teardown { teardown(undo: () => unknown): unknown }

export interface CloudEvent {
  readonly specversion: string
  readonly id: string
  readonly source: string
  readonly type: string
  readonly time: string
  readonly subject?: string
  readonly tenant: string
  readonly sequence?: string
  readonly data: Record<string, unknown>
}

export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** In structured mode. */
  readonly events: readonly CloudEvent[]
  readonly atMs: number
}

/** What the receiver answers: a status (with headers), or nothing at all, or the connection is cut. */
export type Behaviour = number | { readonly status: number, readonly headers?: Record<string, string>, readonly waitMs?: number } | 'hang' | 'cut'

/** A real HTTP server that notes what it took with a 2xx. */
export class Receiver {
  readonly taken: Received[] = []
  /** Every attempt. */
  readonly asked: Received[] = []
  behave: (received: Received) => Behaviour = () => 204
  connections = 0
  readonly #server: Server
  #waiters: (() => void)[] = []

  constructor () {
    this.#server = createServer((request, response) => { this.#take(request, response) })
    this.#server.on('connection', () => { this.connections++ })
  }

  async listen (port = 0): Promise<this> {
    await new Promise<void>(resolve => { this.#server.listen(port, '127.0.0.1', resolve) })
    return this
  }

  get port (): number { return (this.#server.address() as AddressInfo).port }
  get url (): string { return `http://127.0.0.1:${this.port}/hook` }

  async close (): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => { this.#server.close(resolve) })
  }

  get events (): CloudEvent[] { return this.taken.flatMap(({ events }) => events) }
  get ids (): string[] { return this.events.map(({ id }) => id) }

  /** Resolves when it holds. */
  async until (holds: () => boolean, timeoutMs = 10_000): Promise<void> {
    const endMs = performance.now() + timeoutMs
    while (!holds()) {
      const leftMs = endMs - performance.now()
      if (leftMs <= 0) throw new Error(`not so after ${timeoutMs} ms: ${this.asked.length} asked, ${this.taken.length} taken`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, Math.min(100, leftMs))
        this.#waiters.push(() => { clearTimeout(timer); resolve() })
      })
    }
  }

  #take (request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = []
    request.on('error', () => {})
    request.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const type = request.headers['content-type'] ?? ''
      const events = type.includes('cloudevents-batch') ? JSON.parse(body) as CloudEvent[] : type.includes('cloudevents') ? [JSON.parse(body) as CloudEvent] : []
      const received = { path: request.url ?? '', headers: request.headers, body, events, atMs: performance.now() }
      this.asked.push(received)
      const behaviour = this.behave(received)
      if (behaviour === 'hang') { this.#wake(); return }
      if (behaviour === 'cut') { request.socket.destroy(); this.#wake(); return }
      const { status, headers = {}, waitMs = 0 } = typeof behaviour === 'number' ? { status: behaviour } : behaviour
      const answer = (): void => {
        if (status >= 200 && status < 300) this.taken.push(received)
        response.writeHead(status, headers)
        response.end(status === 204 ? undefined : 'ok')
        this.#wake()
      }
      if (waitMs > 0) setTimeout(answer, waitMs)
      else answer()
    })
  }

  #wake (): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}

export async function newReceiver (t: Teardown): Promise<Receiver> {
  const receiver = await new Receiver().listen()
  t.teardown(async () => { await receiver.close() })
  return receiver
}

export interface EventsBench {
  readonly store: EmbeddedStore
  readonly events: Events
}

/** Times of retries are a hundredth of the server's. */
export const quickPolicy = { firstMs: 30, longestMs: 200, giveUpMs: 60_000 }

export async function newStore (t: Teardown): Promise<{ store: EmbeddedStore, directory: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-events-'))
  const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => {
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return { store, directory }
}

/** On this machine's own addresses, which webhooks may not reach else. */
export function openEvents (t: Teardown, store: EventsOptions['store'], more: Partial<EventsOptions> = {}): Events {
  const events = new Events({ store, clock: systemClock, log: silentLog, owner: `owner-${Math.random()}`, node: 'a', live: null, targets: { allowPrivate: true, allow: [] }, policy: quickPolicy, timeoutMs: 2000, ...more })
  events.open()
  t.teardown(async () => { await events.close() })
  return events
}

export async function bench (t: Teardown, more: Partial<EventsOptions> = {}): Promise<EventsBench> {
  const { store } = await newStore(t)
  return { store, events: openEvents(t, store, more) }
}

/** The n-th event of a device. */
export function eventOf (tenant: string, device: string, number: number, more: Partial<OutEvent> = {}): OutEvent {
  return { id: `${tenant}/${device}/${number}`, tenant, device, type: 'twin.changed', stamp: systemClock.nowUs(), data: JSON.stringify({ number }), sequence: { of: 'twin', number }, ...more }
}

/** Devices whose numbers went down, where a number came for the first time. */
export function disordered (events: readonly CloudEvent[]): string[] {
  const last = new Map<string, number>()
  const seen = new Set<string>()
  const wrong: string[] = []
  for (const { id, subject = '', data } of events) {
    if (seen.has(id)) continue
    seen.add(id)
    const number = data.number as number
    if (number < (last.get(subject) ?? -1)) wrong.push(`${subject}: ${number} after ${last.get(subject)}`)
    last.set(subject, number)
  }
  return wrong
}

/** The signature of Standard Webhooks, computed apart from the server's code. */
export function expectedSignature (secret: string, { headers, body }: Received): string {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
  return `v1,${createHmac('sha256', key).update(`${headers['webhook-id'] as string}.${headers['webhook-timestamp'] as string}.${body}`, 'utf8').digest('base64')}`
}
