/**
 * What a connection is owed: acknowledgements in the order of its publishes ([MQTT-4.6.0-2], -3), whatever order the
 * journal and the broker finish in. One entry covers a whole run of publishes; its acknowledgements stand ready-made
 * in a slab that all connections share, so a run costs one pooled object and no buffer.
 */
import { acknowledgementBytes } from './wire.js'

export class AckEntry {
  next: AckEntry | null = null
  nextJournaled: AckEntry | null = null
  /** May be acknowledged: durable (INVARIANTS 1) and, where it went through the broker, stored there. */
  done = false
  /** Acknowledgement packets: [start, end) of `slab`; empty for QoS 0. */
  slab: Buffer | null = null
  start = 0
  end = 0
  /** Publishes it covers, and their bytes, for the in-flight limits. */
  messages = 0
  bytes = 0
  /** Monotonic ms at which the publishes were read. */
  arrivedMs = 0
  /** The publishes, where they also go through the broker after the commit; null otherwise. */
  body: Buffer | null = null
  /** Of `body`, where it goes through the broker only if somebody is known to listen, or that is not known, at the commit. */
  topic: { readonly watched: boolean } | null = null
  /** Token of the record in the journal. */
  token = 0
  /** Told on the commit instead of `body`'s publishes: a journaled step of a longer operation. */
  onCommit: ((error: Error | null) => void) | null = null
}

/** Ready-made acknowledgement packets of all connections, in slabs that are dropped when their last entry is. */
export class AckSlab {
  slab: Buffer
  at = 0
  readonly #bytes: number

  constructor (bytes: number) {
    this.#bytes = bytes
    this.slab = Buffer.allocUnsafeSlow(bytes)
  }

  /** Makes sure that `count` acknowledgements can be written one behind the other. */
  reserve (count: number): void {
    const bytes = count * acknowledgementBytes
    if (this.at + bytes <= this.slab.length) return
    this.slab = Buffer.allocUnsafeSlow(Math.max(this.#bytes, bytes))
    this.at = 0
  }

  write (first: number, packetIdHigh: number, packetIdLow: number): void {
    const { slab, at } = this
    slab[at] = first
    slab[at + 1] = 2
    slab[at + 2] = packetIdHigh
    slab[at + 3] = packetIdLow
    this.at = at + acknowledgementBytes
  }
}

/** Entries that wait to be used again; beyond `entriesMax` they are left to the garbage collector. */
export class AckEntryPool {
  #free: AckEntry | null = null
  #count = 0
  readonly #entriesMax: number

  constructor (entriesMax: number) { this.#entriesMax = entriesMax }

  take (): AckEntry {
    const entry = this.#free
    if (entry === null) return new AckEntry()
    this.#free = entry.next
    this.#count--
    entry.next = null
    return entry
  }

  give (entry: AckEntry): void {
    entry.slab = null
    entry.body = null
    entry.topic = null
    entry.onCommit = null
    entry.nextJournaled = null
    entry.done = false
    entry.start = entry.end = entry.messages = entry.bytes = 0
    if (this.#count >= this.#entriesMax) return
    entry.next = this.#free
    this.#free = entry
    this.#count++
  }
}

export class AckQueue {
  #head: AckEntry | null = null
  #tail: AckEntry | null = null
  #journaledHead: AckEntry | null = null
  #journaledTail: AckEntry | null = null
  /** Publishes without their acknowledgement, and their bytes. */
  messages = 0
  bytes = 0
  readonly #pool: AckEntryPool

  constructor (pool: AckEntryPool) { this.#pool = pool }

  /** Adds an entry behind all others. `journaled`: its record was appended to the journal just now. */
  push (entry: AckEntry, journaled: boolean): void {
    if (this.#tail === null) this.#head = entry
    else this.#tail.next = entry
    this.#tail = entry
    this.messages += entry.messages
    this.bytes += entry.bytes
    if (journaled) this.pushJournaled(entry)
  }

  /** An entry that is in the queue already now waits for a record as well. */
  pushJournaled (entry: AckEntry): void {
    if (this.#journaledTail === null) this.#journaledHead = entry
    else this.#journaledTail.nextJournaled = entry
    this.#journaledTail = entry
  }

  /** The entry of the oldest record without an answer from the journal, which answers in order of records. */
  shiftJournaled (): AckEntry | null {
    const entry = this.#journaledHead
    if (entry === null) return null
    this.#journaledHead = entry.nextJournaled
    if (this.#journaledHead === null) this.#journaledTail = null
    entry.nextJournaled = null
    return entry
  }

  /**
   * Takes what may be acknowledged off the front and sends its packets, coalesced to one buffer.
   * Returns the number of acknowledgements.
   */
  drain (sink: { send(bytes: Buffer): void }): number {
    const from = this.#head
    let bytes = 0
    let parts = 0
    let only: AckEntry | null = null
    let after = from
    for (; after !== null && after.done; after = after.next) {
      this.messages -= after.messages
      this.bytes -= after.bytes
      if (after.end === after.start) continue
      bytes += after.end - after.start
      only = after
      parts++
    }
    if (after === from) return 0
    // Taken off before anything is sent: sending may end the connection, which drains once more.
    this.#head = after
    if (after === null) this.#tail = null
    const joined = only === null ? null : parts === 1 ? (only.slab as Buffer).subarray(only.start, only.end) : Buffer.allocUnsafe(bytes)
    let at = 0
    for (let entry = from; entry !== after && entry !== null;) {
      const next: AckEntry | null = entry.next
      if (joined !== null && parts > 1 && entry.end > entry.start) at += (entry.slab as Buffer).copy(joined, at, entry.start, entry.end)
      this.#pool.give(entry)
      entry = next
    }
    if (joined !== null) sink.send(joined)
    return bytes / acknowledgementBytes
  }

  get empty (): boolean { return this.#head === null }
}
