/**
 * Decides the pressure level from the journal's state, the packer's backlog and how far the applier is behind: senders are slowed as soon as what they
 * sent could no longer be packed within `lagMsMax` (INVARIANTS 2 and 10), and let go again at seven tenths of it. While the store is
 * away nothing can be packed however slowly senders send: the journal takes all then, up to its own bound on disk.
 */
import type { Journal } from '../journal/journal-types.js'
import type { Pressure } from '../gate/pressure.js'

export interface PressureControlOptions {
  readonly journal: Pick<Journal, 'state'>
  readonly packer: { readonly backlogBytes: number, readonly bytesPerSecond: number, readonly stuck?: boolean }
  /** Applies what devices say beside telemetry. */
  readonly applier?: { readonly behind: boolean }
  readonly pressure: Pressure
  /** Milliseconds of packing that may wait. */
  readonly lagMsMax: number
  /** Backlog that is always allowed, bytes: below it the estimate of the rate says little. */
  readonly backlogBytesMin: number
  readonly intervalMs: number
}

export class PressureControl {
  readonly #options: PressureControlOptions
  #timer: NodeJS.Timeout | null = null
  readonly stats = { slowed: 0, refused: 0 }

  constructor (options: PressureControlOptions) {
    this.#options = options
  }

  get allowedBytes (): number {
    const { packer, lagMsMax, backlogBytesMin } = this.#options
    return Math.max(backlogBytesMin, packer.bytesPerSecond * lagMsMax / 1000)
  }

  open (): void {
    this.#timer = setInterval(() => { this.evaluate() }, this.#options.intervalMs)
  }

  close (): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  evaluate (): void {
    const { journal, packer, pressure } = this.#options
    const { state } = journal
    if (state === 'full' || state === 'failed') {
      if (pressure.level !== 'refuse') this.stats.refused++
      pressure.set('refuse')
      return
    }
    const backlog = packer.backlogBytes
    const allowed = this.allowedBytes
    const behind = backlog > allowed || (pressure.level === 'slow' && backlog > allowed * 0.7)
    const slow = state === 'slow' || (behind && packer.stuck !== true) || this.#options.applier?.behind === true
    if (slow && pressure.level !== 'slow') this.stats.slowed++
    pressure.set(slow ? 'slow' : 'open')
  }
}
