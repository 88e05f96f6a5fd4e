/**
 * Which windows there are, for readers: a directory is listed again only after it has changed. A listing hides nothing that was there when
 * it was asked for: a seal may put its rows into a new window and remove the head chunks they stand for a moment later, and a reader
 * that still believed in the older listing would see neither.
 *
 * File systems note the time of a change in steps, of up to two seconds on old ones. Two changes in one step look like one, so a listing is
 * only kept where the last change was longer ago than that.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { classPath, listClass, type StoredWindow, type WindowFamily } from './raw-files.js'

/** A change within this time, ms, may be followed by one that has the same time. */
const stepMsMax = 2500
/** Listings that are kept; there is one a family and retention class. */
const listingsMax = 1024

interface Listing { readonly changedMs: number, readonly windows: readonly StoredWindow[] }

export class StoredWindows {
  readonly #directory: string
  readonly #fileMs: () => number
  readonly #listings = new Map<string, Listing>()

  /** @param fileMs the clock that files get their times from */
  constructor (directory: string, fileMs: () => number = Date.now) {
    this.#directory = directory
    this.#fileMs = fileMs
  }

  /** As `listWindows`: ascending by class and start. */
  async list (family: WindowFamily, classes: readonly number[]): Promise<StoredWindow[]> {
    const windows: StoredWindow[] = []
    for (const retentionDays of [...new Set(classes)].sort((a, b) => a - b)) windows.push(...await this.#ofClass(family, retentionDays))
    return windows
  }

  async #ofClass (family: WindowFamily, retentionDays: number): Promise<readonly StoredWindow[]> {
    const path = classPath(family, retentionDays)
    const known = this.#listings.get(path)
    const changedMs = this.#changedMs(path)
    if (known !== undefined && known.changedMs === changedMs) return known.windows
    const nowMs = this.#fileMs()
    const windows = await listClass(this.#directory, family, retentionDays)
    if (changedMs === null || changedMs > nowMs - stepMsMax) {
      this.#listings.delete(path)
    } else {
      if (this.#listings.size >= listingsMax) this.#listings.clear()
      this.#listings.set(path, { changedMs, windows })
    }
    return windows
  }

  /** When the directory changed last; null where that cannot be told. A call that waits for nobody costs a tenth of one that does. */
  #changedMs (path: string): number | null {
    try {
      return statSync(join(this.#directory, path), { throwIfNoEntry: false })?.mtimeMs ?? null
    } catch {
      return null
    }
  }
}
