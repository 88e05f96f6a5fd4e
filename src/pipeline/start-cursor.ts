/**
 * Where packing resumes after a start. The cursor that is advanced after every slice is in the store's memory and the
 * operating system's page cache: good after the process died, not after the machine did. The operating system's boot id
 * tells which of the two happened; after a new boot packing resumes at the cursor that was written behind a flush, and
 * slices after it are packed again, onto the same rows.
 */
import { readFileSync } from 'node:fs'
import type { CursorStore, SettingsStore } from '../store/small-stores.js'
import { packedDurablyCursor } from './journal-keeper.js'
import { packedCursor } from './packer.js'

/** By journal: nodes of a cluster share the settings. */
const bootIdSetting = (journalId: string): string => `boot-id ${journalId}`

/** Linux's id of the running boot; null where the platform has none, which counts as a new boot. */
export function readBootId (): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return null
  }
}

export async function startCursor (store: CursorStore & SettingsStore, journalId: string, bootId: string | null): Promise<number> {
  const sameBoot = bootId !== null && await store.getSetting(bootIdSetting(journalId)) === bootId
  const durable = await store.getCursor(journalId, packedDurablyCursor) ?? 0
  const position = sameBoot ? await store.getCursor(journalId, packedCursor) ?? durable : durable
  if (!sameBoot) {
    // The fast cursor must not outlive the boot it was true for.
    await store.putCursor(journalId, packedCursor, position, true)
    if (bootId !== null) await store.putSetting(bootIdSetting(journalId), bootId)
  }
  return Math.max(position, durable)
}
