/**
 * When the devices of a no-data rule were last heard, by accept stamp, in order of that: who has been silent longest stands first, so a
 * look at the first few tells all. Written down by shards now and then (documents beside the alarms), because after a restart silence can
 * only be missed by who knows that there was a voice.
 *
 * Bounded: `devicesMax` of a rule; those beyond are not watched, and counted.
 */
import { hash32 } from '../core/ids.js'
import type { DocumentStore } from '../store/document-store.js'

const devicesMaxDefault = 100_000
const shards = 64

/** Sorts after all alarms: no rule's id begins so. */
export const seenPrefix = '~seen/'
export function seenRulePrefix (rule: string): string { return `${seenPrefix}${rule}/` }

interface SeenDocument { readonly stamp: number, readonly devices: Readonly<Record<string, number>> }

export interface SeenTableOptions {
  readonly documents: DocumentStore
  readonly tenant: string
  readonly rule: string
  readonly ruleStamp: number
  /** This node, as part of a document's id. */
  readonly node: string
  readonly devicesMax?: number
}

export class SeenTable {
  readonly #options: SeenTableOptions
  readonly #seen = new Map<string, number>()
  readonly #dirty = new Set<number>()
  readonly #revisions = new Map<string, number>()
  unwatched = 0

  constructor (options: SeenTableOptions) { this.#options = options }

  get size (): number { return this.#seen.size }

  /** µs; undefined: never, or given up. */
  of (device: string): number | undefined { return this.#seen.get(device) }

  note (device: string, stampUs: number): void {
    const known = this.#seen.get(device)
    if (known !== undefined) {
      if (known >= stampUs) return
      this.#seen.delete(device)
    } else if (this.#seen.size >= (this.#options.devicesMax ?? devicesMaxDefault)) {
      this.unwatched++
      return
    }
    this.#seen.set(device, stampUs)
    this.#dirty.add(hash32(device) % shards)
  }

  /** Takes out those last heard before, at most `limit`. */
  takeSilentSince (beforeUs: number, limit: number): { readonly device: string, readonly stampUs: number }[] {
    const silent: { device: string, stampUs: number }[] = []
    for (const [device, stampUs] of this.#seen) {
      if (stampUs >= beforeUs || silent.length >= limit) break
      silent.push({ device, stampUs })
    }
    for (const { device } of silent) this.#seen.delete(device)
    return silent
  }

  /** What all nodes have written down. */
  async load (): Promise<void> {
    const { documents, tenant, rule, ruleStamp } = this.#options
    const found: [string, number][] = []
    let cursor: string | null = null
    do {
      const page: Awaited<ReturnType<DocumentStore['listDocuments']>> = await documents.listDocuments('alarm', tenant, seenRulePrefix(rule), cursor, 100)
      for (const { id, revision, body } of page.items) {
        if (id.endsWith(`/${this.#options.node}`)) this.#revisions.set(id, revision)
        const { stamp, devices } = JSON.parse(body) as SeenDocument
        // Of a version of the rule before this: its devices are not those of this one.
        if (stamp === ruleStamp) found.push(...Object.entries(devices))
      }
      cursor = page.next
    } while (cursor !== null)
    found.sort((a, b) => a[1] - b[1])
    for (const [device, stampUs] of found) this.note(device, stampUs)
    this.#dirty.clear()
  }

  /** Writes down what has changed since the last time. */
  async save (): Promise<void> {
    const dirty = [...this.#dirty]
    if (dirty.length === 0) return
    this.#dirty.clear()
    const bodies = new Map(dirty.map(shard => [shard, {} as Record<string, number>]))
    for (const [device, stampUs] of this.#seen) {
      const devices = bodies.get(hash32(device) % shards)
      if (devices !== undefined) devices[device] = stampUs
    }
    for (const [shard, devices] of bodies) {
      try {
        await this.#put(shard, devices)
      } catch (error) {
        this.#dirty.add(shard)
        throw error
      }
    }
  }

  async #put (shard: number, devices: Readonly<Record<string, number>>): Promise<void> {
    const { documents, tenant, rule, ruleStamp, node } = this.#options
    const id = `${seenRulePrefix(rule)}${String(shard).padStart(2, '0')}/${node}`
    const document: SeenDocument = { stamp: ruleStamp, devices }
    for (let attempt = 0; attempt < 3; attempt++) {
      const revision = this.#revisions.get(id) ?? 0
      if (await documents.putDocument('alarm', tenant, id, JSON.stringify(document), revision)) {
        this.#revisions.set(id, revision + 1)
        return
      }
      this.#revisions.set(id, (await documents.getDocument('alarm', tenant, id))?.revision ?? 0)
    }
  }
}
