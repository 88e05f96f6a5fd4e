/**
 * Twins that this process has read or committed, decoded. Where it is the only writer they are the truth; in a cluster they save a read before
 * a commit, which fails where they are old. Bounded by the size of the stored states, the least recently used go first.
 */
import { LRUCache } from 'lru-cache'
import type { EntityKey, EntityStore } from '../store/entity-store.js'
import { decodeEvent } from './event-codec.js'
import { decodeState } from './state-codec.js'
import { absentTwin, type TwinState } from './twin-state.js'

export interface CachedTwin {
  readonly state: TwinState
  /** As in `Entity`. */
  readonly writer: string
  readonly writerFrom: number
}

/** What an entry costs beside its state's text. */
const entryChars = 500

export class TwinCache {
  readonly #store: Pick<EntityStore, 'getEntity' | 'readEntityEvents'>
  readonly #twins: LRUCache<string, CachedTwin>

  constructor (store: Pick<EntityStore, 'getEntity' | 'readEntityEvents'>, { charsMax }: { readonly charsMax: number }) {
    this.#store = store
    this.#twins = new LRUCache({ maxSize: charsMax })
  }

  get size (): number { return this.#twins.size }

  peek (text: string): CachedTwin | undefined {
    return this.#twins.get(text)
  }

  put (text: string, twin: CachedTwin, stateChars: number): void {
    this.#twins.set(text, twin, { size: stateChars + entryChars })
  }

  drop (text: string): void {
    this.#twins.delete(text)
  }

  /** From the store, and remembered unless something newer is. @throws TwinfoldError `store_unavailable`, `format_newer`, `corrupt_data` */
  async read (text: string, key: EntityKey): Promise<CachedTwin> {
    const twin = await readTwin(this.#store, key)
    const known = this.#twins.peek(text)
    // What was committed while the read was under way is newer than what it saw.
    if (known !== undefined && known.state.version > twin.state.version) return known
    this.put(text, twin, twin.state.alive ? JSON.stringify(twin.state.desired).length + JSON.stringify(twin.state.reported).length : 0)
    return twin
  }
}

export async function readTwin (store: Pick<EntityStore, 'getEntity' | 'readEntityEvents'>, key: EntityKey): Promise<CachedTwin> {
  const { version, state, writer, writerFrom } = await store.getEntity(key)
  if (state !== null) return { state: decodeState(state), writer, writerFrom }
  if (version === 0) return { state: absentTwin(0, 0), writer, writerFrom }
  // The event of the deletion stays: it says from when on messages are about the next twin.
  const [deleted] = await store.readEntityEvents(key, version, version, 1)
  return { state: absentTwin(version, deleted === undefined ? 0 : decodeEvent(deleted).stamp), writer, writerFrom }
}

export function keyText ({ tenant, device, name }: Pick<EntityKey, 'tenant' | 'device' | 'name'>): string {
  return `${tenant}\0${device}\0${name}`
}
