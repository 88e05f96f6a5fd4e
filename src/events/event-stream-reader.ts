/**
 * One client of the event stream: reads the log at the client's own pace, so nothing waits for it in memory and nothing is left out; a
 * slow one is behind and slows nobody. What it has got is in the `id` of what it is sent; from there it goes on when it comes back.
 */
import type { OutEvent } from '../store/event-log.js'
import type { Principal } from '../tenancy/model.js'
import { cloudEventJson } from './cloud-event.js'
import type { EventTails, LaneNews } from './event-tails.js'
import { encodePosition } from './stream-position.js'

/** Where a client's text goes. */
export interface EventSink {
  /** false: no more for now; `drained` is called when there is room. */
  readonly writable: boolean
  write(text: string): void
  end(hard: boolean): void
}

export interface EventStreamReaderOptions {
  readonly principal: Principal
  readonly tenant: string
  readonly sink: EventSink
  readonly tails: EventTails
  readonly wants: (event: OutEvent) => boolean | Promise<boolean>
  /** By lane that it reads. */
  readonly positions: Map<number, string>
  /** Events that happened before are left out, µs. */
  readonly fromUs: number
  /** Wall clock, ms. */
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  readonly delivered: (count: number) => void
  readonly failed: (error: Error) => void
}

/** Events of one lane that are looked through before it is the next one's turn. */
const pageMax = 100

export class EventStreamReader {
  readonly #options: EventStreamReaderOptions
  /** Lanes that may have events for it. */
  readonly #due: Set<number>
  #running = false
  #ended = false
  /** When the client last took something, or had nothing to take. */
  progressMs: number
  /** When it was last written to. */
  wroteMs: number

  constructor (options: EventStreamReaderOptions) {
    this.#options = options
    this.#due = new Set(options.positions.keys())
    this.progressMs = this.wroteMs = options.monotonicMs()
  }

  get principal (): Principal { return this.#options.principal }
  get tenant (): string { return this.#options.tenant }
  get sink (): EventSink { return this.#options.sink }
  get ended (): boolean { return this.#ended }

  news ({ lane, tenants, since, end }: LaneNews): void {
    const position = this.#options.positions.get(lane)
    if (position === undefined) return
    if (tenants.has(this.tenant) || this.#due.has(lane) || position < since) this.#due.add(lane)
    else if (position < end) this.#options.positions.set(lane, end)
    this.run()
  }

  /** There is room again. */
  drained (): void {
    this.progressMs = this.#options.monotonicMs()
    this.run()
  }

  run (): void {
    if (this.#running || this.#ended || this.#due.size === 0 || !this.sink.writable) return
    this.#running = true
    this.#deliver().then(() => {
      this.#running = false
      // News that came while it ended.
      this.run()
    }, (error: Error) => {
      this.#running = false
      this.#options.failed(error)
    })
  }

  /** Also tells where it is: events of others were passed. */
  keepAlive (): void { this.#write(`id: ${this.#id()}\n\n`) }

  tell (name: string, data: object): void { this.#write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`) }

  end (hard: boolean): void {
    this.#ended = true
    this.sink.end(hard)
  }

  async #deliver (): Promise<void> {
    const { positions, tails, wants, delivered, fromUs } = this.#options
    while (!this.#ended && this.sink.writable && this.#due.size > 0) {
      const [lane] = this.#due
      // To the end of the row: all lanes go on alike.
      this.#due.delete(lane)
      let page
      try {
        page = await tails.read(lane, positions.get(lane) as string, pageMax)
      } catch (error) {
        this.#due.add(lane)
        throw error
      }
      if (page.more) this.#due.add(lane)
      const parts: string[] = []
      for (const { event } of page.events) {
        if (event.tenant !== this.tenant || event.stamp < fromUs || !await wants(event)) continue
        // Line breaks in JSON stand between its tokens only; in a stream they would end the data.
        parts.push(`event: ${event.type}\ndata: ${cloudEventJson(event).replace(/[\r\n]+/g, ' ')}\n`)
      }
      if (this.#ended) return
      if (page.position > (positions.get(lane) as string)) positions.set(lane, page.position)
      if (parts.length === 0) continue
      delivered(parts.length)
      // The id stands at the last of them: who is cut off before it gets all of them again.
      this.#write(`${parts.join('\n')}id: ${this.#id()}\n\n`)
    }
    if (this.#due.size === 0) this.progressMs = this.#options.monotonicMs()
  }

  #id (): string { return encodePosition({ atMs: this.#options.nowMs(), lanes: this.#options.positions }) }

  #write (text: string): void {
    if (this.#ended) return
    this.wroteMs = this.#options.monotonicMs()
    this.sink.write(text)
    if (this.sink.writable) this.progressMs = this.wroteMs
  }
}
