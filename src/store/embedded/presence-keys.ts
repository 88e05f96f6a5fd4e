/**
 * Keys of the `presence` database (format 1): version byte, table byte, then texts that end in 0x00.
 *
 *     device     tenant, device, node, part   -> JSON     part 'c': connected, 'e': how it ended, 'l': lost, 'a': last heard of, µs
 *     open       boot, tenant, device, connection -> JSON of it
 *     boot       boot                         -> JSON
 */
import { textKey } from './keys.js'

export const presenceTables = { device: 0x10, open: 0x11, boot: 0x12 } as const

/** A whole key, or a prefix. `invalid_request` for texts that are not printable ASCII. */
export function presenceKey (table: number, ...texts: readonly string[]): Buffer { return textKey(table, texts) }
