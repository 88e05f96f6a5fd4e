/**
 * Tells whichever node a device is connected to that there is something for it. Nothing is stored: what was rung while nodes could not
 * hear each other is made up for by looking again (`relinked`).
 */

/** What there is for a device: its twin has changed, or there are commands. */
export type BellReason = 'twin' | 'commands' | 'registry'

export interface DeviceBell {
  /** Never waits, never throws. Listeners of this process are called at once, those of other nodes soon. */
  ring (tenant: string, device: string, reason: BellReason, name?: string): void
  /** Must not throw. Returns how to stop. */
  onRing (listener: (tenant: string, device: string, reason: BellReason, name: string) => void): () => void
  /** Rings of other nodes may have been missed until now. Returns how to stop. */
  onRelinked (listener: () => void): () => void
}
