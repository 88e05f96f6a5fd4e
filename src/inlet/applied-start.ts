/**
 * Where applying resumes after a start: as the packer does (pipeline/start-cursor.ts), at the cursor that is written every second
 * where only the process died, at the one written behind a flush of the stores where the machine did.
 */
import type { CursorStore, SettingsStore } from '../store/small-stores.js'

/** Good after the death of the process. */
export const appliedCursor = 'applied'
/** Good after the loss of power, too. */
export const appliedDurablyCursor = 'applied-durably'

const bootIdSetting = (journalId: string): string => `applied boot-id ${journalId}`

/** @param bootId the operating system's, null where it has none: counts as a new boot. 0 where nothing was ever applied. */
export async function appliedStart (store: CursorStore & SettingsStore, journalId: string, bootId: string | null): Promise<number> {
  const sameBoot = bootId !== null && await store.getSetting(bootIdSetting(journalId)) === bootId
  const durable = await store.getCursor(journalId, appliedDurablyCursor) ?? 0
  if (sameBoot) return Math.max(durable, await store.getCursor(journalId, appliedCursor) ?? 0)
  await store.putCursor(journalId, appliedCursor, durable, true)
  if (bootId !== null) await store.putSetting(bootIdSetting(journalId), bootId)
  return durable
}
