/**
 * Reads telemetry bodies as they are, never parsed here (FACTS: a parse on the main thread costs more than all the rest).
 * Two bounds: one body (413), and all bodies that are being read or wait for their commit (429).
 */
import type { FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { HttpEdgeStats } from './edge-types.js'

type Done = (error: Error | null, body?: Buffer) => void

export class BodyReader {
  readonly #bodyBytesMax: number
  readonly #bodiesBytesMax: number
  readonly #stats: HttpEdgeStats

  constructor (options: { readonly bodyBytesMax: number, readonly bodiesBytesMax: number, readonly stats: HttpEdgeStats }) {
    this.#bodyBytesMax = options.bodyBytesMax
    this.#bodiesBytesMax = options.bodiesBytesMax
    this.#stats = options.stats
  }

  /** A content type parser of Fastify. A body that was read stays accounted until `release(body.length)`. */
  readonly parse = (_request: FastifyRequest, payload: NodeJS.ReadableStream & { headers?: unknown }, done: Done): void => {
    const announced = Number((payload as { headers?: { 'content-length'?: string } }).headers?.['content-length'] ?? 0)
    if (announced > this.#bodyBytesMax) { done(this.#tooLarge()); return }
    if (this.#stats.bodiesBytes + announced > this.#bodiesBytesMax) { done(this.#tooMany()); return }
    this.#stats.bodiesBytes += announced
    this.#collect(payload, announced, done)
  }

  release (bytes: number): void { this.#stats.bodiesBytes -= bytes }

  #collect (payload: NodeJS.ReadableStream, announced: number, done: Done): void {
    let accounted = announced
    let received = 0
    let first: Buffer | null = null
    let chunks: Buffer[] | null = null
    const finish = (error: Error | null, body?: Buffer): void => {
      payload.removeListener('data', onData)
      payload.removeListener('end', onEnd)
      payload.removeListener('error', onAbort)
      payload.removeListener('close', onAbort)
      const kept = body?.length ?? 0
      this.release(accounted - kept)
      // What comes after a refusal is read and dropped by Node until the connection ends.
      if (error !== null) payload.resume()
      done(error, body)
    }
    const onData = (chunk: Buffer): void => {
      received += chunk.length
      if (received > accounted) {
        this.#stats.bodiesBytes += received - accounted
        accounted = received
      }
      if (received > this.#bodyBytesMax) { finish(this.#tooLarge()); return }
      if (this.#stats.bodiesBytes > this.#bodiesBytesMax) { finish(this.#tooMany()); return }
      if (first === null) first = chunk
      else (chunks ??= [first]).push(chunk)
    }
    const onEnd = (): void => { finish(null, chunks !== null ? Buffer.concat(chunks, received) : first ?? Buffer.alloc(0)) }
    const onAbort = (): void => { finish(new TwinfoldError('invalid_request', 'the connection ended before the body did')) }
    payload.on('data', onData)
    payload.on('end', onEnd)
    payload.on('error', onAbort)
    payload.on('close', onAbort)
  }

  #tooLarge (): TwinfoldError {
    return new TwinfoldError('payload_too_large', `a telemetry body holds at most ${this.#bodyBytesMax} bytes; split it`)
  }

  #tooMany (): TwinfoldError {
    return new TwinfoldError('throttled', `${this.#bodiesBytesMax} bytes of telemetry wait for their commit already`, { retryAfterMs: 1000 })
  }
}
