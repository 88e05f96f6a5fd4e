/** Devices as rows of the `twins` table. Pure but for the paths it remembers. */
import type { TwinRow } from '../twin-search.js'
import { LeafReader, type LeafKey } from './twin-leaves.js'
import { RowBuffer } from './row-buffer.js'

const maps = (letter: string): string[] => Array.from({ length: 8 }, (_, i) => `${letter}${i}`)

/** The columns in the order in which they are written. */
export const twinColumns = [
  'tenant', 'device', 'type', 'name', 'gateway', 'created_at', 'tags', 'desired', 'reported', 'state', 'since', 'reason', 'activity',
  'twin_version', 'desired_version', 'reported_version', 'updated_at', 'erased_before', ...maps('s'), ...maps('n'), ...maps('f'), 'read_at', 'deleted'
] as const

export const connectionStates = { connected: 1, disconnected: 2 } as const
/** Numbers, counts of maps and lengths of the texts that every row has. */
const fixedBytes = 10 * 8 + 2 + 25 * 5 + 9 * 5
/** Of a leaf beside its text: key, number or length. */
const leafBytes = 8 + 8 + 5
const emptyRecord = { tags: {}, desired: {}, reported: {}, version: 0, desiredVersion: 0, reportedVersion: 0, updatedAt: 0, connection: null, lastActivity: 0, erasedBefore: 0 } as const

export class TwinRows {
  readonly #rows = new RowBuffer()
  readonly #leaves = new LeafReader()

  get length (): number { return this.#rows.length }

  add ({ tenant, id, readAt, record }: TwinRow): void {
    const rows = this.#rows
    const { tags, desired, reported, version, desiredVersion, reportedVersion, updatedAt, connection, lastActivity, erasedBefore } = record ?? emptyRecord
    const { type = '', name = '', gatewayId = null, createdAt = 0 } = record?.device ?? {}
    const leaves = this.#leaves.read(tags, desired, reported)
    const desiredText = JSON.stringify(desired)
    const reportedText = JSON.stringify(reported)
    const tagList = Object.entries(tags)
    const tagChars = tagList.reduce((sum, [key, value]) => sum + key.length + value.length, 0)
    const texts = [tenant, id, type, name, gatewayId ?? '']
    const chars = texts.reduce((sum, text) => sum + text.length, 0) + tagChars + desiredText.length + reportedText.length + (connection?.reason?.length ?? 0) + leaves.chars
    rows.reserve(fixedBytes + tagList.length * 10 + leaves.count * leafBytes, chars)
    for (const text of texts) rows.text(text)
    rows.uint64(createdAt)
    rows.varint(tagList.length)
    for (const [key, value] of tagList) {
      rows.text(key)
      rows.text(value)
    }
    rows.text(desiredText)
    rows.text(reportedText)
    rows.byte(connection === null ? 0 : connectionStates[connection.state])
    rows.uint64(connection?.since ?? 0)
    rows.text(connection?.reason ?? '')
    for (const number of [lastActivity, version, desiredVersion, reportedVersion, updatedAt, erasedBefore]) rows.uint64(number)
    this.#maps(leaves.strings, text => { rows.text(text) })
    this.#maps(leaves.numbers, number => { rows.double(number) })
    this.#maps(leaves.flags, flag => { rows.byte(flag) })
    rows.uint64(readAt)
    rows.byte(record === null ? 1 : 0)
  }

  /** The rows added so far, in a buffer of their own. */
  take (): Buffer { return this.#rows.take() }

  #maps<T> (lists: readonly (readonly (readonly [LeafKey, T])[])[], write: (value: T) => void): void {
    for (const list of lists) {
      this.#rows.varint(list.length)
      for (const [{ low, high }, value] of list) {
        this.#rows.uint32(low)
        this.#rows.uint32(high)
        write(value)
      }
    }
  }
}
