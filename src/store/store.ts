/** All ports of one storage backend. `app.ts` alone says which backend it is. */
import type { ClaimStore } from './claim-store.js'
import type { DeadLetterStore } from './dead-letter-store.js'
import type { DependencyStatus } from './dependency-status.js'
import type { DocumentStore } from './document-store.js'
import type { EntityStore } from './entity-store.js'
import type { EventLog } from './event-log.js'
import type { HotState } from './hot-state.js'
import type { JobStore } from './job-store.js'
import type { Outbox } from './outbox.js'
import type { PlanStore } from './plan-store.js'
import type { PresenceStore } from './presence-store.js'
import type { RawStore } from './raw-store.js'
import type { RegistryStore } from './registry.js'
import type { SealRequestStore } from './seal-requests.js'
import type { CursorStore, ErasureStore, IdempotencyStore, SettingsStore } from './small-stores.js'
import type { TierStore } from './tier-store.js'

export interface Store extends RegistryStore, PlanStore, DeadLetterStore, CursorStore, IdempotencyStore, ErasureStore, SettingsStore, ClaimStore, SealRequestStore, JobStore, EntityStore, EventLog, DocumentStore, PresenceStore {
  readonly raw: RawStore
  readonly tiers: TierStore
  /** null: the raw store is as near. */
  readonly hot: HotState | null
  /** null: this backend feeds no projection. */
  readonly outbox: Outbox | null
  /** The services behind it, as seen by this process's calls; none behind the embedded store. */
  dependencies(): readonly DependencyStatus[]
  open(): Promise<void>
  close(): Promise<void>
}
