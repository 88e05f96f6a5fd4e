/**
 * A small client of the HTTP API for simulators, benches and drills: tenants, devices, readings. It goes through the public
 * interface, as any user would.
 */
export interface ApiReading {
  /** Milliseconds since the epoch, fractions where there are microseconds. */
  readonly ts: number
  readonly values: Readonly<Record<string, number | boolean | string>>
}

interface ReadingPage {
  readonly readings: ApiReading[]
  readonly next: string | null
}

/** A credential that was just made: its secret is shown this once. */
interface Issued {
  readonly secret: string
}

export interface ApiAnswer {
  readonly status: number
  readonly body: unknown
}

/** Bytes of the journal that are not in the store yet. */
const backlogMetric = 'twinfold_journal_unpacked_bytes'

export class TwinfoldApi {
  readonly #url: string
  readonly #key: string

  /** @param url as in http://127.0.0.1:8080 */
  constructor (url: string, key: string) {
    this.#url = url
    this.#key = key
  }

  /** One request; any status is an answer. */
  async ask (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<ApiAnswer> {
    const response = await fetch(`${this.#url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text) }
  }

  /** @throws Error with the server's answer when the status is none of the expected */
  async #expect (expected: readonly number[], method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    const answer = await this.ask(method, path, body)
    if (!expected.includes(answer.status)) throw new Error(`${method} ${path} was answered with ${answer.status}: ${JSON.stringify(answer.body)}`)
    return answer
  }

  /** Creates a tenant with an admin key; returns its first key. */
  async createTenant (id: string, retentionDays: number): Promise<string> {
    const { body } = await this.#expect([201], 'POST', '/tenants', { id, name: id, retentionDays })
    return (body as { key: Issued }).key.secret
  }

  /** Creates a device and returns its token; a device that exists is given a further token. */
  async createDevice (id: string): Promise<string> {
    const created = await this.#expect([201, 409], 'POST', '/devices', { id })
    if (created.status === 201) return (created.body as { token: Issued }).token.secret
    const added = await this.#expect([201], 'POST', `/devices/${encodeURIComponent(id)}/tokens`, { label: 'simulator' })
    return (added.body as Issued).secret
  }

  /** Creates devices, `atOnce` requests at a time; returns their tokens in order. */
  async createDevices (ids: readonly string[], atOnce = 16): Promise<string[]> {
    const tokens: string[] = new Array<string>(ids.length)
    let at = 0
    const createNext = async (): Promise<void> => {
      for (let i = at++; i < ids.length; i = at++) tokens[i] = await this.createDevice(ids[i])
    }
    await Promise.all(Array.from({ length: atOnce }, createNext))
    return tokens
  }

  /** All readings of a device in [fromMs, toMs), page by page, ascending. */
  async * readings (device: string, fromMs: number, toMs: number, pageReadings = 1000): AsyncGenerator<ApiReading, void, undefined> {
    let cursor: string | null = null
    do {
      const query = new URLSearchParams({ from: String(fromMs), to: String(toMs), order: 'asc', limit: String(pageReadings), times: 'ms' })
      if (cursor !== null) query.set('cursor', cursor)
      const { body } = await this.#expect([200], 'GET', `/devices/${encodeURIComponent(device)}/telemetry?${query.toString()}`)
      const page = body as ReadingPage
      yield * page.readings
      cursor = page.next
    } while (cursor !== null)
  }

  /** A gauge or counter of /metrics without labels; undefined when it is not there. */
  async metric (name: string): Promise<number | undefined> {
    const response = await fetch(`${this.#url}/metrics`, { headers: { authorization: `Bearer ${this.#key}` } })
    const line = (await response.text()).split('\n').find(candidate => candidate.startsWith(`${name} `))
    return line === undefined ? undefined : Number(line.slice(name.length + 1))
  }

  /** Waits until everything acknowledged is packed into the store. @throws Error after `timeoutMs` */
  async drain (timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    for (;;) {
      const unpacked = await this.metric(backlogMetric)
      if (unpacked === undefined) throw new Error(`/metrics shows no ${backlogMetric}`)
      if (unpacked === 0) return
      if (performance.now() > deadlineMs) throw new Error(`${unpacked} bytes of the journal are not packed after ${timeoutMs} ms`)
      await new Promise(resolve => { setTimeout(resolve, 20) })
    }
  }
}
