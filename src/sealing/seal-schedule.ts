/**
 * Which buckets are to be sealed, and when. Pure: told what became dirty and what the time is. One device is sealed once at a time; what
 * becomes dirty while its bucket is being sealed is due again afterwards.
 *
 * Bounded by `entriesMax`: what does not fit is refused and found again by the sealer's sweep.
 */
import type { SealRequest } from '../store/seal-requests.js'
import type { BucketName } from '../../workers/seal-protocol.js'

export interface SealEntry extends BucketName {
  readonly key: string
  /** µs: may be sealed from then on. */
  readonly dueUs: number
  /** µs: should have been sealed from then on; unlike `dueUs` not put off by failures. */
  readonly sinceUs: number
  readonly growing: boolean
  /** Why it is sealed although nothing new need be there. */
  readonly requests: readonly SealRequest[]
  readonly attempts: number
}

export interface NoteOptions {
  readonly dueUs: number
  readonly growing?: boolean
  readonly request?: SealRequest
}

const retryPauseUsMin = 5e6
const retryPauseUsMax = 600e6

export function bucketKey ({ tenant, device, bucket }: BucketName): string {
  return `${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`
}

function deviceKey ({ tenant, device }: BucketName): string {
  return `${tenant}\0${device}`
}

export class SealSchedule {
  readonly #entriesMax: number
  readonly #waiting = new Map<string, SealEntry>()
  readonly #running = new Map<string, SealEntry>()
  /** By dueUs, a binary heap; may name entries that are due at another time by now or gone. */
  readonly #heap: { readonly dueUs: number, readonly key: string }[] = []

  constructor ({ entriesMax }: { entriesMax: number }) {
    this.#entriesMax = entriesMax
  }

  get size (): number { return this.#waiting.size + this.#running.size }

  /** Whether it was taken: false where the schedule is full. A bucket that waits keeps the earlier of two times. */
  note (name: BucketName, { dueUs, growing = false, request }: NoteOptions): boolean {
    const key = bucketKey(name)
    const known = this.#waiting.get(key)
    if (known === undefined && this.#waiting.size >= this.#entriesMax) return false
    const requests = known?.requests ?? []
    const isNew = request !== undefined && !requests.some(({ stamp }) => stamp === request.stamp)
    this.#put({
      ...name,
      key,
      dueUs: Math.min(dueUs, known?.dueUs ?? Infinity),
      sinceUs: Math.min(dueUs, known?.sinceUs ?? Infinity),
      growing: growing && (known?.growing ?? true),
      requests: isNew ? [...requests, request] : requests,
      attempts: known?.attempts ?? 0
    })
    return true
  }

  has (name: BucketName): boolean {
    const key = bucketKey(name)
    return this.#waiting.has(key) || this.#running.get(deviceKey(name))?.key === key
  }

  /** The entry that is due longest and whose device is free; it runs until `finished` or `failed`. */
  take (nowUs: number): SealEntry | null {
    const busy: { dueUs: number, key: string }[] = []
    let taken: SealEntry | null = null
    while (taken === null && this.#heap.length > 0 && this.#heap[0].dueUs <= nowUs) {
      const top = this.#pop()
      const entry = this.#waiting.get(top.key)
      if (entry === undefined || entry.dueUs !== top.dueUs) continue
      if (this.#running.has(deviceKey(entry))) busy.push(top)
      else taken = entry
    }
    for (const item of busy) this.#push(item)
    if (taken === null) return null
    this.#waiting.delete(taken.key)
    this.#running.set(deviceKey(taken), taken)
    return taken
  }

  finished (entry: SealEntry): void {
    this.#running.delete(deviceKey(entry))
  }

  /** To be tried again after a pause that grows with every failure; returns the pause, µs. */
  failed (entry: SealEntry, nowUs: number, pauseUs = Math.min(retryPauseUsMax, retryPauseUsMin * 2 ** Math.min(entry.attempts, 10))): number {
    this.#running.delete(deviceKey(entry))
    const noted = this.#waiting.get(entry.key)
    const known = new Set(entry.requests.map(({ stamp }) => stamp))
    this.#put({
      ...entry,
      dueUs: nowUs + pauseUs,
      growing: entry.growing && (noted?.growing ?? true),
      requests: [...entry.requests, ...(noted?.requests ?? []).filter(({ stamp }) => !known.has(stamp))],
      attempts: entry.attempts + 1
    })
    return pauseUs
  }

  /** Entries that should have been sealed by now, and since when the oldest of them, µs. */
  overdue (nowUs: number): { readonly count: number, readonly oldestUs: number | null } {
    let count = 0
    let oldestUs: number | null = null
    for (const entries of [this.#waiting, this.#running]) {
      for (const { sinceUs } of entries.values()) {
        if (sinceUs > nowUs) continue
        count++
        if (oldestUs === null || sinceUs < oldestUs) oldestUs = sinceUs
      }
    }
    return { count, oldestUs }
  }

  #put (entry: SealEntry): void {
    const known = this.#waiting.get(entry.key)
    this.#waiting.set(entry.key, entry)
    if (known?.dueUs !== entry.dueUs) this.#push({ dueUs: entry.dueUs, key: entry.key })
    // What went stale in the heap must not pile up.
    if (this.#heap.length > 2 * this.#waiting.size + 1024) this.#rebuild()
  }

  #rebuild (): void {
    this.#heap.length = 0
    for (const { dueUs, key } of this.#waiting.values()) this.#heap.push({ dueUs, key })
    this.#heap.sort((a, b) => a.dueUs - b.dueUs)
  }

  #push (item: { readonly dueUs: number, readonly key: string }): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(item)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (heap[parent].dueUs <= item.dueUs) break
      heap[at] = heap[parent]
      at = parent
    }
    heap[at] = item
  }

  #pop (): { readonly dueUs: number, readonly key: string } {
    const heap = this.#heap
    const top = heap[0]
    const item = heap.pop()
    if (item === undefined || heap.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && heap[child + 1].dueUs < heap[child].dueUs) child++
      if (heap[child].dueUs >= item.dueUs) break
      heap[at] = heap[child]
      at = child
    }
    heap[at] = item
    return top
  }
}
