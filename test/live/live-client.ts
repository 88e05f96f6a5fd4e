/** A watcher of live readings over server-sent events, as a browser would be, and the messages it got. */
import { once } from 'node:events'
import { request, type ClientRequest, type IncomingMessage } from 'node:http'

export interface LiveEvent {
  readonly event: string
  readonly id: string
  readonly data: Record<string, unknown>
  /** performance.now() */
  readonly atMs: number
}

export interface WatchOptions {
  readonly key: string
  readonly lastId?: string
  readonly headers?: Readonly<Record<string, string>>
}

export class LiveClient {
  readonly status: number
  readonly events: LiveEvent[] = []
  comments = 0
  ended = false
  lastId = ''
  readonly #request: ClientRequest
  readonly #response: IncomingMessage
  #text = ''
  /** Of an answer that is no stream. */
  body = ''
  #waiters: (() => void)[] = []

  constructor (asked: ClientRequest, response: IncomingMessage) {
    this.#request = asked
    this.#response = response
    this.status = response.statusCode ?? 0
    response.setEncoding('utf8')
    response.on('data', (text: string) => { this.#received(text) })
    response.on('close', () => { this.ended = true; this.#wake() })
    response.on('error', () => {})
  }

  #received (text: string): void {
    if (this.status !== 200) { this.body += text; return }
    const blocks = (this.#text + text).split('\n\n')
    this.#text = blocks.pop() as string
    for (const block of blocks) {
      let event = 'message'
      let data = ''
      for (const line of block.split('\n')) {
        if (line.startsWith(':')) this.comments++
        else if (line.startsWith('id: ')) this.lastId = line.slice(4)
        else if (line.startsWith('event: ')) event = line.slice(7)
        else if (line.startsWith('data: ')) data += line.slice(6)
      }
      if (data !== '') this.events.push({ event, id: this.lastId, data: JSON.parse(data) as Record<string, unknown>, atMs: performance.now() })
    }
    this.#wake()
  }

  #wake (): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  of (event: string): LiveEvent[] { return this.events.filter(candidate => candidate.event === event) }

  /** Resolves when it holds. @throws Error with what was got after `timeoutMs` */
  async until (holds: (client: this) => boolean, timeoutMs = 10_000): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    while (!holds(this)) {
      const leftMs = deadlineMs - performance.now()
      if (leftMs <= 0) throw new Error(`not so after ${timeoutMs} ms; ${this.events.length} events, the last ${JSON.stringify(this.events.slice(-5))}, ended ${this.ended} ${this.body}`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, Math.min(leftMs, 200))
        this.#waiters.push(() => { clearTimeout(timer); resolve() })
      })
    }
  }

  pause (): void { this.#response.pause() }
  resume (): void { this.#response.resume() }
  close (): void { this.#request.destroy() }
}

/** Asks for a stream. Any status is an answer. */
export async function watchLive (httpUrl: string, query: string, { key, lastId, headers = {} }: WatchOptions): Promise<LiveClient> {
  const asked = request(`${httpUrl}/api/v1/live?${query}`, { agent: false, headers: { authorization: `Bearer ${key}`, ...(lastId === undefined ? {} : { 'last-event-id': lastId }), ...headers } })
  asked.on('error', () => {})
  asked.end()
  const [response] = await once(asked, 'response') as [IncomingMessage]
  return new LiveClient(asked, response)
}

/** As `watchLive`, after the latest values. */
export async function watchReady (httpUrl: string, query: string, options: WatchOptions): Promise<LiveClient> {
  const client = await watchLive(httpUrl, query, options)
  await client.until(({ events, status }) => status !== 200 || events.some(({ event }) => event === 'ready'))
  return client
}
