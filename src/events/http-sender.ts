/**
 * One POST to a webhook: connections are kept alive per webhook, go only where the guard permits (address-guard.ts), follow no
 * redirect, and a sink that hangs or talks without end is cut. Nothing of the answer's body is kept.
 */
import { Agent as PlainAgent, request as plainRequest, type IncomingMessage } from 'node:http'
import { Agent as SecureAgent, request as secureRequest } from 'node:https'
import { isIP } from 'node:net'
import { hostOf, type AddressGuard } from './address-guard.js'
import { parseRetryAfter, type Answer } from './retry-policy.js'

export interface HttpSenderOptions {
  readonly guard: AddressGuard
  readonly timeoutMs: number
  /** Wall clock, ms. */
  readonly nowMs: () => number
  /** Certificates that are trusted beside the system's, PEM. Default none. */
  readonly ca?: string
}

/** Connections of one webhook: as many as deliveries at once. */
const socketsMax = 4
/** An idle connection is closed before a usual server (5 s in Node, 60 s and more elsewhere) closes it under a request. */
const idleMs = 4000
/** Bytes of an answer that are read (and thrown away), so that its connection serves again; of a longer one the connection is cut. */
const answerBytesMax = 64 * 1024

export class HttpSender {
  readonly #options: HttpSenderOptions
  readonly #agents = new Map<string, PlainAgent>()

  constructor (options: HttpSenderOptions) { this.#options = options }

  /** Never rejects. @param key whose connections are shared: one webhook's; @param signal ends it early (fault) */
  async post (key: string, url: URL, headers: Readonly<Record<string, string>>, body: Buffer, signal?: AbortSignal): Promise<Answer> {
    const host = hostOf(url)
    // A literal address is not looked up when it is connected to.
    if (isIP(host) !== 0 && !this.#options.guard.permits(host)) return { kind: 'fault', reason: 'the address is not public' }
    const first = await this.#post(key, url, headers, body, signal)
    if (first !== 'stale') return first
    // The sink closed the idle connection in the moment it was used again: that is no failure of the sink.
    const second = await this.#post(key, url, headers, body, signal)
    return second === 'stale' ? { kind: 'fault', reason: 'ECONNRESET' } : second
  }

  async #post (key: string, url: URL, headers: Readonly<Record<string, string>>, body: Buffer, signal?: AbortSignal): Promise<Answer | 'stale'> {
    return await new Promise(resolve => {
      const send = url.protocol === 'https:' ? secureRequest : plainRequest
      let done = false
      const settle = (answer: Answer | 'stale'): void => {
        if (done) return
        done = true
        clearTimeout(timer)
        resolve(answer)
      }
      const request = send(url, {
        method: 'POST',
        agent: this.#agentOf(key, url),
        headers: { ...headers, 'content-length': body.length },
        lookup: this.#options.guard.lookup,
        ...(signal === undefined ? {} : { signal })
      }, response => { this.#answered(response, settle) })
      const timer = setTimeout(() => {
        settle({ kind: 'fault', reason: `no answer in ${this.#options.timeoutMs} ms` })
        request.destroy()
      }, this.#options.timeoutMs)
      request.on('error', (error: NodeJS.ErrnoException) => {
        settle(request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE') ? 'stale' : { kind: 'fault', reason: reasonOf(error) })
      })
      request.end(body)
    })
  }

  #answered (response: IncomingMessage, settle: (answer: Answer) => void): void {
    const status = response.statusCode ?? 0
    const answer: Answer = { kind: 'status', status, retryAfterMs: parseRetryAfter(response.headers['retry-after'], this.#options.nowMs()) }
    let bytes = 0
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= answerBytesMax) return
      settle(answer)
      response.destroy()
    })
    // The status decides; whether its body comes whole does not matter, but the next request waits for it on this connection.
    response.on('end', () => { settle(answer) })
    response.on('close', () => { settle(answer) })
    response.on('error', () => { settle(answer) })
  }

  #agentOf (key: string, url: URL): PlainAgent {
    const name = `${key}\0${url.protocol}`
    let agent = this.#agents.get(name)
    if (agent === undefined) {
      const options = { keepAlive: true, maxSockets: socketsMax, maxFreeSockets: socketsMax, timeout: idleMs }
      agent = url.protocol === 'https:' ? new SecureAgent({ ...options, ...(this.#options.ca === undefined ? {} : { ca: this.#options.ca }) }) : new PlainAgent(options)
      this.#agents.set(name, agent)
    }
    return agent
  }

  /** Closes the connections of a webhook that is gone; a delivery under way ends as a fault. @param key as given to `post`, or what it begins with before a `/` */
  forget (key: string): void {
    for (const [name, agent] of this.#agents) {
      if (!name.startsWith(`${key}\0`) && !name.startsWith(`${key}/`)) continue
      agent.destroy()
      this.#agents.delete(name)
    }
  }

  close (): void {
    for (const agent of this.#agents.values()) agent.destroy()
    this.#agents.clear()
  }
}

/** Says what is wrong without telling addresses of the inside. */
function reasonOf ({ code, message, name }: NodeJS.ErrnoException): string {
  if (name === 'AbortError') return 'the server stops'
  if (code === 'EADDRREFUSED') return 'the host leads to an address that is not public'
  return code ?? message.slice(0, 100)
}
