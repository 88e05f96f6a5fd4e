/**
 * One coarse timer for all connections: a hashed wheel (Varghese and Lauck, 1987) whose items carry their own links,
 * so that a connection costs no timer and no closure. Pure: the owner says when a tick has passed.
 */
export interface WheelItem {
  wheelNext: WheelItem | null
  wheelPrevious: WheelItem | null
  /** Slot that holds the item, -1 when it is not scheduled. */
  wheelSlot: number
  /** The item's time has come; it is no longer scheduled and may schedule itself again. Must not throw. */
  due(): void
}

export class TimerWheel {
  readonly #slots: (WheelItem | null)[]
  #tick = 0

  /** @param slots longest delay in ticks; a longer one is cut to it, and the item looks again then. */
  constructor (slots: number) {
    this.#slots = new Array<WheelItem | null>(slots + 1).fill(null)
  }

  /** Ticks since the wheel began. */
  get tick (): number { return this.#tick }

  /** Schedules the item anew, at least one tick ahead. */
  schedule (item: WheelItem, delayTicks: number): void {
    this.cancel(item)
    const ahead = Math.min(Math.max(1, Math.ceil(delayTicks)), this.#slots.length - 1)
    const slot = (this.#tick + ahead) % this.#slots.length
    const head = this.#slots[slot]
    item.wheelSlot = slot
    item.wheelNext = head
    if (head !== null) head.wheelPrevious = item
    this.#slots[slot] = item
  }

  cancel (item: WheelItem): void {
    if (item.wheelSlot === -1) return
    if (item.wheelPrevious === null) this.#slots[item.wheelSlot] = item.wheelNext
    else item.wheelPrevious.wheelNext = item.wheelNext
    if (item.wheelNext !== null) item.wheelNext.wheelPrevious = item.wheelPrevious
    item.wheelNext = null
    item.wheelPrevious = null
    item.wheelSlot = -1
  }

  /** Lets one tick pass and calls what is due. */
  advance (): void {
    this.#tick++
    const slot = this.#tick % this.#slots.length
    // An item that schedules itself again lands in another slot, so this ends.
    for (let item = this.#slots[slot]; item !== null; item = this.#slots[slot]) {
      this.cancel(item)
      item.due()
    }
  }
}
