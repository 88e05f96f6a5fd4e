/** Devices of the registry as rows of the `devices` table. Pure. */
import type { AnalyticsDevice } from '../analytics-store.js'
import { RowBuffer } from './row-buffer.js'

export const deviceColumns = ['tenant', 'device', 'type', 'name', 'gateway', 'is_gateway', 'tags', 'created_at', 'version', 'deleted'] as const

export class DeviceRows {
  readonly #rows = new RowBuffer()

  add ({ tenant, id, device, version }: AnalyticsDevice): void {
    const rows = this.#rows
    const { type = '', name = '', gatewayId = null, gateway = false, createdAt = 0 } = device ?? {}
    const tags = Object.entries(device?.tags ?? {})
    const tagChars = tags.reduce((sum, [key, value]) => sum + key.length + value.length, 0)
    rows.reserve(2 + 16 + 5 * 6 + tags.length * 10, tenant.length + id.length + type.length + name.length + (gatewayId ?? '').length + tagChars)
    for (const text of [tenant, id, type, name, gatewayId ?? '']) rows.text(text)
    rows.byte(gateway ? 1 : 0)
    rows.varint(tags.length)
    for (const [key, value] of tags) {
      rows.text(key)
      rows.text(value)
    }
    rows.uint64(createdAt)
    rows.uint64(version)
    rows.byte(device === null ? 1 : 0)
  }

  take (): Buffer { return this.#rows.take() }
}
