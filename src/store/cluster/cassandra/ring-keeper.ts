/**
 * Keeps the driver's picture of the ring right. The driver (4.10) draws it once, when it opens: when it comes back from a time
 * without any node it makes its hosts anew, but goes on routing by the old ones, whose connections nobody closes any more; and a
 * node that joins later owns no tokens. So the picture is drawn again whenever a host came or went.
 */
import type { Client } from 'cassandra-driver'
import type { Log } from '../../../core/log.js'

/** Hosts change together (a restart of the cluster): one drawing a second at most. */
const settleMs = 500

interface DriverHost {
  readonly tokens?: unknown
  shutdown(waitForPending: boolean): Promise<void>
}

interface DriverMetadata {
  buildTokens?(hosts: unknown): void
  refreshKeyspaces(waitReconnect: boolean): Promise<void>
}

export class RingKeeper {
  readonly #client: Client
  readonly #log: Log
  readonly #gone = new Set<DriverHost>()
  #timer: NodeJS.Timeout | null = null
  #closed = false

  constructor (client: Client, log: Log) {
    this.#client = client
    this.#log = log
    client.on('hostAdd', () => { this.#later() })
    client.on('hostRemove', (host: DriverHost) => {
      this.#gone.add(host)
      this.#later()
    })
  }

  /** After the driver's own shutdown: closes what the driver forgot. */
  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#closeGone(false)
  }

  #later (): void {
    if (this.#closed || this.#timer !== null) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      void this.#draw()
    }, settleMs).unref()
  }

  async #draw (): Promise<void> {
    const hosts = this.#client.hosts.values() as unknown as DriverHost[]
    const metadata = this.#client.metadata as unknown as DriverMetadata
    try {
      if (hosts.some(host => host.tokens === undefined)) {
        this.#later()
        return
      }
      metadata.buildTokens?.(this.#client.hosts)
      // The keyspaces keep their replicas by host: these have to be worked out again as well.
      await metadata.refreshKeyspaces(false)
      await this.#closeGone(true)
    } catch (error) {
      this.#log.debug({ error: (error as Error).message }, 'the ring of Cassandra could not be read')
      this.#later()
    }
  }

  async #closeGone (waitForPending: boolean): Promise<void> {
    const gone = [...this.#gone]
    this.#gone.clear()
    await Promise.all(gone.map(async host => { await host.shutdown(waitForPending).catch(() => {}) }))
  }
}
