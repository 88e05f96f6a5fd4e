/**
 * A response as server-sent events (WHATWG HTML, section 9.2), for live subscriptions. It writes to Node's response itself: what
 * gathers in one delivery leaves in one write, and how much waits is decided by the subscription, which looks at `writable` first.
 */
import type { FastifyReply } from 'fastify'
import type { LiveEventName, LiveSink } from '../../live/live-subscriber.js'

/** A client that lost its connection comes back after this long. */
const retryMs = 2000
/** A connection that is ended gets this long to take its last bytes. */
const lastBytesMs = 2000

export class EventStream implements LiveSink {
  readonly #reply: FastifyReply
  #parts: string[] = []
  #ended = false

  /** Takes the response over and sends its head. `onDrain` and `onClose` may be called from here on. */
  constructor (reply: FastifyReply, { onDrain, onClose }: { readonly onDrain: () => void, readonly onClose: () => void }) {
    this.#reply = reply
    reply.hijack()
    const { raw } = reply
    raw.on('drain', onDrain)
    raw.on('close', onClose)
    raw.on('error', () => { /* `close` follows. */ })
    raw.writeHead(200, { ...reply.getHeaders() as Record<string, string>, 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    raw.socket?.setNoDelay(true)
    raw.write(`retry: ${retryMs}\n\n`)
  }

  get writable (): boolean {
    const { raw } = this.#reply
    return !this.#ended && !raw.destroyed && !raw.writableNeedDrain
  }

  readings (_device: string, text: string): void { this.#parts.push(text) }

  /** Written out already. */
  text (text: string): void {
    this.#parts.push(text)
    this.flush()
  }

  latest (device: string, latest: string): void { this.#parts.push(`event: latest\ndata: {"device":${JSON.stringify(device)},"latest":${latest}}\n\n`) }

  event (name: LiveEventName, data: object): void { this.#parts.push(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`) }

  keepAlive (): void { this.#parts.push(': nothing new\n\n') }

  flush (): void {
    if (this.#parts.length === 0) return
    const text = this.#parts.length === 1 ? this.#parts[0] : this.#parts.join('')
    this.#parts = []
    if (!this.#ended && !this.#reply.raw.destroyed) this.#reply.raw.write(text)
  }

  end (hard: boolean): void {
    if (this.#ended) return
    this.#ended = true
    const { raw } = this.#reply
    if (hard) { raw.destroy(); return }
    raw.end()
    const timer = setTimeout(() => { raw.destroy() }, lastBytesMs).unref()
    raw.once('close', () => { clearTimeout(timer) })
  }
}
