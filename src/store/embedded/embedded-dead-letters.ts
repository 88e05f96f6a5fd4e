/**
 * Dead letters in `meta`: a row that describes the letter and one with its payload, so that trimming and filtering read no
 * payloads. Workers and the main thread write them; nothing is counted in memory, so there is nothing to keep in step.
 */
import type { DeadLetter, DeadLetterReason, DeadLetterStore } from '../dead-letter-store.js'
import type { Page } from '../registry.js'
import { after, rangeOf } from './key-bytes.js'
import { del, put, type Operation } from './level.js'
import type { Meta } from './meta.js'
import { jsonValue, metaKey, metaTables, parseJson, textsOf } from './meta-keys.js'
import { firstKey } from './scan.js'

type Description = Omit<DeadLetter, 'payload'> & { readonly storedBytes: number }

/** Letters that one batch removes. */
const removedPerBatchMax = 1000

export class EmbeddedDeadLetters implements DeadLetterStore {
  readonly #meta: Meta

  constructor (meta: Meta) {
    this.#meta = meta
  }

  async putDeadLetters (letters: readonly DeadLetter[]): Promise<void> {
    const operations: Operation[] = []
    for (const { payload, ...described } of letters) {
      const { tenant, id } = described
      operations.push(
        put(metaKey(metaTables.letter, tenant, id), jsonValue({ ...described, storedBytes: payload.length } satisfies Description)),
        put(metaKey(metaTables.payload, tenant, id), payload))
    }
    await this.#meta.write(operations)
  }

  async listDeadLetters (tenant: string, filter: { reason?: DeadLetterReason, device?: string }, cursor: string | null, limit: number): Promise<Page<DeadLetter>> {
    const page = await this.#meta.page(metaKey(metaTables.letter, tenant), cursor, limit, ([, value]) => {
      const described = parseJson<Description>(value)
      if (filter.reason !== undefined && described.reason !== filter.reason) return null
      if (filter.device !== undefined && described.device !== filter.device) return null
      return described
    }, true)
    const letters = await Promise.all(page.items.map(async described => await this.#withPayload(described)))
    return { items: letters.filter(letter => letter !== null), next: page.next }
  }

  async getDeadLetter (tenant: string, id: string): Promise<DeadLetter | null> {
    const value = await this.#meta.get(metaKey(metaTables.letter, tenant, id))
    return value === null ? null : await this.#withPayload(parseJson<Description>(value))
  }

  async deleteDeadLetters (tenant: string, ids: readonly string[]): Promise<number> {
    let removed = 0
    const distinct = [...new Set(ids)]
    for (let at = 0; at < distinct.length; at += removedPerBatchMax) {
      const some = distinct.slice(at, at + removedPerBatchMax)
      const present = await this.#meta.read(async database => await database.hasMany(some.map(id => metaKey(metaTables.letter, tenant, id))))
      removed += await this.#remove(tenant, some.filter((_, i) => present[i]))
    }
    return removed
  }

  async trimDeadLetters (tenant: string, countMax: number, bytesMax: number): Promise<number> {
    let count = 0
    let bytes = 0
    const surplus: string[] = []
    await this.#meta.scan({ ...rangeOf(metaKey(metaTables.letter, tenant)), reverse: true }, ([key, value]) => {
      count++
      bytes += parseJson<Description>(value).storedBytes
      // Once a letter does not fit, all older ones go too: what stays has no holes.
      if (count > countMax || bytes > bytesMax || surplus.length > 0) surplus.push(textsOf(key)[1])
      return true
    })
    let removed = 0
    for (let at = 0; at < surplus.length; at += removedPerBatchMax) removed += await this.#remove(tenant, surplus.slice(at, at + removedPerBatchMax))
    return removed
  }

  async deadLetterTenants (): Promise<readonly string[]> {
    const range = rangeOf(metaKey(metaTables.letter))
    return await this.#meta.read(async database => {
      const tenants: string[] = []
      for (let { gte } = range; ;) {
        const key = await firstKey(database, { gte, lt: range.lt })
        if (key === null) return tenants
        const [tenant] = textsOf(key)
        tenants.push(tenant)
        gte = after(metaKey(metaTables.letter, tenant))
      }
    })
  }

  async #remove (tenant: string, ids: readonly string[]): Promise<number> {
    await this.#meta.write(ids.flatMap(id => [del(metaKey(metaTables.letter, tenant, id)), del(metaKey(metaTables.payload, tenant, id))]))
    return ids.length
  }

  /** null where the letter was removed meanwhile. */
  async #withPayload ({ storedBytes: _storedBytes, ...described }: Description): Promise<DeadLetter | null> {
    const payload = await this.#meta.get(metaKey(metaTables.payload, described.tenant, described.id))
    return payload === null ? null : { ...described, payload }
  }
}
