/** All ports of one storage backend. `app.ts` alone says which backend it is. */
import type { DeadLetterStore } from './dead-letter-store.js'
import type { PlanStore } from './plan-store.js'
import type { RawStore } from './raw-store.js'
import type { RegistryStore } from './registry.js'
import type { CursorStore, ErasureStore, IdempotencyStore, SettingsStore } from './small-stores.js'

export interface Store extends RegistryStore, PlanStore, DeadLetterStore, CursorStore, IdempotencyStore, ErasureStore, SettingsStore {
  readonly raw: RawStore
  open(): Promise<void>
  close(): Promise<void>
}
