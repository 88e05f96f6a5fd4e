/**
 * Dead letters of sinks: events that were not delivered and will not be (collection `webhook-letter`), to be read, replayed or deleted.
 * Bounded per sink and lane: the oldest go first, counted. A letter is found again by the event it holds, so that writing it twice
 * (a crash between the letter and the cursor) keeps one.
 */
import { createHash } from 'node:crypto'
import { TwinfoldError } from '../core/errors.js'
import { documentBytesMax, type DocumentStore, type StoredDocument } from '../store/document-store.js'
import { laneOf, type OutEvent } from '../store/event-log.js'
import type { Page } from '../store/registry.js'

export interface Letter {
  readonly id: string
  readonly event: OutEvent
  /** Why it was given up. */
  readonly reason: string
  readonly attempts: number
  /** µs; when it was given up. */
  readonly at: number
  /** The data was too large for a letter and is not in it: such a letter cannot be replayed, the log may be. */
  readonly cut: boolean
}

/** Letters kept of one sink in one lane; 16 lanes. */
export const lettersPerLaneMax = 1000

const collection = 'webhook-letter'
const stampDigits = 16

export function letterId (sink: string, { tenant, device, stamp, id }: OutEvent): string {
  const hash = createHash('sha256').update(id).digest('base64url').slice(0, 16)
  return `${sink}/${String(laneOf(tenant, device)).padStart(2, '0')}/${String(stamp).padStart(stampDigits, '0')}-${hash}`
}

function encodeLetter (letter: Omit<Letter, 'id' | 'cut'>): string {
  const whole = JSON.stringify({ v: 1, ...letter, cut: false })
  if (Buffer.byteLength(whole) <= documentBytesMax) return whole
  return JSON.stringify({ v: 1, ...letter, event: { ...letter.event, data: '{}' }, cut: true })
}

/** @throws TwinfoldError `corrupt_data`, `format_newer` */
export function decodeLetter ({ id, body }: StoredDocument): Letter {
  const { v, ...letter } = JSON.parse(body) as { v: number } & Omit<Letter, 'id'>
  if (typeof v !== 'number') throw new TwinfoldError('corrupt_data', 'a dead letter of a webhook is not complete')
  if (v > 1) throw new TwinfoldError('format_newer', 'a dead letter of a webhook was written by a newer version')
  return { id, ...letter }
}

export class Letters {
  readonly #store: DocumentStore
  readonly #perLaneMax: number
  /** Letters of a sink and lane, where they were counted; never less than there are. */
  readonly #counts = new Map<string, number>()
  readonly stats = { added: 0, dropped: 0 }

  constructor (store: DocumentStore, perLaneMax = lettersPerLaneMax) {
    this.#store = store
    this.#perLaneMax = perLaneMax
  }

  async add (sink: string, event: OutEvent, more: { readonly reason: string, readonly attempts: number, readonly at: number }): Promise<void> {
    const id = letterId(sink, event)
    await this.#makeRoom(event.tenant, id.slice(0, id.lastIndexOf('/') + 1))
    if (await this.#store.putDocument(collection, event.tenant, id, encodeLetter({ event, ...more }), 0)) this.stats.added++
  }

  async #makeRoom (tenant: string, prefix: string): Promise<void> {
    const key = `${tenant}\0${prefix}`
    let count = this.#counts.get(key) ?? Infinity
    if (count >= this.#perLaneMax) {
      const kept = await this.#all(tenant, prefix, this.#perLaneMax + 1)
      const drop = kept.slice(0, Math.max(0, kept.length - this.#perLaneMax + Math.ceil(this.#perLaneMax / 8)))
      if (kept.length >= this.#perLaneMax) {
        for (const { id, revision } of drop) if (await this.#store.deleteDocument(collection, tenant, id, revision)) this.stats.dropped++
      }
      count = kept.length >= this.#perLaneMax ? kept.length - drop.length : kept.length
    }
    this.#counts.delete(key)
    this.#counts.set(key, count + 1)
    if (this.#counts.size > 10_000) this.#counts.delete(this.#counts.keys().next().value as string)
  }

  async #all (tenant: string, prefix: string, max: number): Promise<StoredDocument[]> {
    const all: StoredDocument[] = []
    let cursor: string | null = null
    do {
      const page: Page<StoredDocument> = await this.#store.listDocuments(collection, tenant, prefix, cursor, Math.min(200, max - all.length))
      all.push(...page.items)
      cursor = page.next
    } while (cursor !== null && all.length < max)
    return all
  }

  /** Oldest first within a lane. */
  async list (tenant: string, sink: string, cursor: string | null, limit: number): Promise<Page<Letter>> {
    const page = await this.#store.listDocuments(collection, tenant, `${sink}/`, cursor, limit)
    return { items: page.items.map(decodeLetter), next: page.next }
  }

  async get (tenant: string, id: string): Promise<Letter | null> {
    const document = await this.#store.getDocument(collection, tenant, id)
    return document === null ? null : decodeLetter(document)
  }

  async delete (tenant: string, id: string): Promise<boolean> {
    const document = await this.#store.getDocument(collection, tenant, id)
    return document !== null && await this.#store.deleteDocument(collection, tenant, id, document.revision)
  }

  /** All of a sink. Returns how many. */
  async deleteAll (tenant: string, sink: string): Promise<number> {
    let count = 0
    for (;;) {
      const { items } = await this.#store.listDocuments(collection, tenant, `${sink}/`, null, 200)
      let deleted = 0
      for (const { id, revision } of items) if (await this.#store.deleteDocument(collection, tenant, id, revision)) deleted++
      count += deleted
      if (deleted === 0) return count
    }
  }
}
