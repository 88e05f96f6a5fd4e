/**
 * Readers of the events of twins, as back ends have them: a stream (SSE) that is opened again where it was cut off, and a webhook that
 * fails now and then. What they got is checked as docs/EVENTS.md promises: at least once, in the order of versions per device.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Random } from '../../simulators/fleet/seeded-random.js'
import { pauseMs, type ChangeAnswer } from './twin-drill.js'

export interface ToldEvent {
  readonly id: string
  readonly type: string
  readonly subject: string
  readonly sequence: string
  readonly data: { readonly version: number, readonly name: string, readonly kind: ChangeAnswer['kind'], readonly patch: ChangeAnswer['patch'] }
}

/** Collects, and says what is wrong with what came. */
export class Told {
  readonly #byDevice = new Map<string, { readonly events: ToldEvent[], readonly ids: Set<string> }>()
  repeats = 0

  add (event: ToldEvent): void {
    let of = this.#byDevice.get(event.subject)
    if (of === undefined) this.#byDevice.set(event.subject, of = { events: [], ids: new Set() })
    if (of.ids.has(event.id)) {
      this.repeats++
      return
    }
    of.ids.add(event.id)
    of.events.push(event)
  }

  /** The first time of each, in the order they came. */
  of (device: string): readonly ToldEvent[] { return this.#byDevice.get(device)?.events ?? [] }

  /** Where the events of a device are not 1 to `version`, in order. */
  findings (device: string, version: number): string[] {
    const got = this.of(device)
    const found: string[] = []
    let next = 1
    got.forEach(({ sequence, type, data }, i) => {
      if (Number(sequence) !== next) found.push(`${device}: ${sequence} (${type}, ${JSON.stringify(data.patch)}) came at place ${i + 1} after ${next - 1}`)
      next = Number(sequence) + 1
    })
    if (got.length !== version) found.push(`${device}: ${got.length} events of ${version} versions`)
    return found.slice(0, 6)
  }
}

/** A stream of `twin.*` from a time on. */
export class EventStreamClient {
  readonly told = new Told()
  opened = 0
  readonly #key: string
  readonly #fromMs: number
  #url = ''
  #lastId = ''
  #closed = false
  #abort = new AbortController()
  #running: Promise<void> | null = null

  constructor (key: string, fromMs: number) {
    this.#key = key
    this.#fromMs = fromMs
  }

  /** Reads from this server from now on. */
  run (httpUrl: string): void {
    this.#url = httpUrl
    this.#abort.abort()
    this.#running ??= this.#loop()
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#abort.abort()
    await this.#running
  }

  async #loop (): Promise<void> {
    while (!this.#closed) {
      this.#abort = new AbortController()
      try {
        await this.#read()
      } catch {
        await pauseMs(20)
      }
    }
  }

  async #read (): Promise<void> {
    const { signal } = this.#abort
    const response = await fetch(`${this.#url}/api/v1/events?types=twin.*&from=${this.#fromMs}`, { signal, headers: { authorization: `Bearer ${this.#key}`, ...(this.#lastId === '' ? {} : { 'last-event-id': this.#lastId }) } })
    if (response.status !== 200 || response.body === null) throw new Error(`${response.status} ${await response.text()}`)
    this.opened++
    let text = ''
    for await (const part of response.body.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>) {
      text += part
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        this.#block(text.slice(0, end))
        text = text.slice(end + 2)
      }
    }
  }

  #block (block: string): void {
    for (const line of block.split('\n')) {
      if (line.startsWith('data: ') && line.includes('"specversion"')) this.told.add(JSON.parse(line.slice(6)) as ToldEvent)
      if (line.startsWith('id: ')) this.#lastId = line.slice(4)
    }
  }
}

/** A webhook's target on the loopback interface; one of `failsOneIn` deliveries is refused, or taken and not answered. */
export class WebhookTarget {
  readonly told = new Told()
  failed = 0
  /** From now on every delivery is taken. */
  calm = false
  readonly #server: Server

  private constructor (random: Random, failsOneIn: number) {
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => { parts.push(part) })
      request.on('end', () => {
        const fate = this.calm ? 1 : random() * failsOneIn
        if (fate < 0.5) {
          this.failed++
          response.writeHead(503).end()
          return
        }
        const body = JSON.parse(Buffer.concat(parts).toString()) as ToldEvent | ToldEvent[]
        for (const event of Array.isArray(body) ? body : [body]) this.told.add(event)
        if (fate < 1 && !this.calm) {
          this.failed++
          request.socket.destroy()
          return
        }
        response.writeHead(204).end()
      })
    })
  }

  static async open (random: Random, failsOneIn: number): Promise<WebhookTarget> {
    const target = new WebhookTarget(random, failsOneIn)
    await new Promise<void>(resolve => { target.#server.listen(0, '127.0.0.1', resolve) })
    return target
  }

  get url (): string { return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/` }

  async close (): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => { this.#server.close(resolve) })
  }
}
