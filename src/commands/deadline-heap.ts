/** The next deadlines, by book: a binary heap with one entry for each, the earliest wins. Bounded; what does not fit is refused. Pure. */
export interface DueBook { readonly dueUs: number, readonly tenant: string, readonly device: string }

export class DeadlineHeap {
  readonly #entries: DueBook[] = []
  readonly #earliest = new Map<string, number>()
  readonly #max: number

  constructor (max: number) {
    this.#max = max
  }

  get size (): number { return this.#entries.length }

  /** When the first is due, µs; null: none. */
  get next (): number | null { return this.#entries.length === 0 ? null : this.#entries[0].dueUs }

  /** False: the heap is full. An entry that is there already for an earlier time stays. */
  add (entry: DueBook): boolean {
    const key = `${entry.tenant}\0${entry.device}`
    const earliest = this.#earliest.get(key)
    if (earliest !== undefined && earliest <= entry.dueUs) return true
    if (this.#entries.length >= this.#max) return false
    this.#earliest.set(key, entry.dueUs)
    this.#entries.push(entry)
    this.#up(this.#entries.length - 1)
    return true
  }

  /** Takes out what is due at the time, at most `limit`. */
  take (nowUs: number, limit: number): DueBook[] {
    const due: DueBook[] = []
    while (due.length < limit && this.#entries.length > 0 && this.#entries[0].dueUs <= nowUs) {
      const entry = this.#pop()
      const key = `${entry.tenant}\0${entry.device}`
      // One that an earlier entry of the same book has made needless.
      if (this.#earliest.get(key) !== entry.dueUs) continue
      this.#earliest.delete(key)
      due.push(entry)
    }
    return due
  }

  #pop (): DueBook {
    const first = this.#entries[0]
    const last = this.#entries.pop() as DueBook
    if (this.#entries.length > 0) {
      this.#entries[0] = last
      this.#down(0)
    }
    return first
  }

  #up (index: number): void {
    const entry = this.#entries[index]
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (this.#entries[parent].dueUs <= entry.dueUs) break
      this.#entries[index] = this.#entries[parent]
      index = parent
    }
    this.#entries[index] = entry
  }

  #down (index: number): void {
    const entry = this.#entries[index]
    for (;;) {
      let child = index * 2 + 1
      if (child >= this.#entries.length) break
      if (child + 1 < this.#entries.length && this.#entries[child + 1].dueUs < this.#entries[child].dueUs) child++
      if (this.#entries[child].dueUs >= entry.dueUs) break
      this.#entries[index] = this.#entries[child]
      index = child
    }
    this.#entries[index] = entry
  }
}
