/** Devices that are to be read again, each once however often it changed, the oldest first. Bounded by its user. Pure. */

export interface DirtyDevice {
  readonly tenant: string
  readonly id: string
}

export class DirtyDevices {
  readonly #devices = new Map<string, DirtyDevice>()

  get size (): number { return this.#devices.size }

  add (tenant: string, id: string): void {
    const key = `${tenant}\0${id}`
    if (!this.#devices.has(key)) this.#devices.set(key, { tenant, id })
  }

  /** Takes the oldest of one tenant, at most `limit`; what is added from here on is read again. */
  take (limit: number): { readonly tenant: string, readonly ids: readonly string[] } | null {
    const [first] = this.#devices.values()
    if (first === undefined) return null
    const ids: string[] = []
    for (const [key, { tenant, id }] of this.#devices) {
      if (tenant !== first.tenant) continue
      this.#devices.delete(key)
      if (ids.push(id) === limit) break
    }
    return { tenant: first.tenant, ids }
  }
}
