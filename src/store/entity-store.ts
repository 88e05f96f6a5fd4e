/**
 * Port: what is kept of a device as a versioned state with its history: its twins (a state and an event for every change) and its
 * book of commands (a state and an item for every command). INVARIANTS 5: a change is one conditional step of one partition; there
 * is no other way to write, so no writer overwrites what it has not seen.
 *
 * An entity that was deleted keeps its version (state null), so that versions go on when the device is made again.
 */
import type { OutEvent } from './event-log.js'

export type EntityKind = 'twin' | 'commands'

export interface EntityKey {
  readonly tenant: string
  readonly device: string
  readonly kind: EntityKind
  /** '' for the device's own twin and its commands, else the name of a named twin. */
  readonly name: string
}

export interface Entity {
  /** 0: there never was one. */
  readonly version: number
  /** JSON; null: there never was one, or it is deleted. */
  readonly state: string | null
  /** Journal id of the node that made the last commit, and the first version of that commit. */
  readonly writer: string
  readonly writerFrom: number
}

/** One step of the history. */
export interface EntityEvent {
  readonly version: number
  /** Accept stamp, µs; grows with the version. */
  readonly stamp: number
  /** JSON of the kind's own, versioned format. */
  readonly body: string
}

/** Rows beside the state in the same partition; null takes one away. In order of id: printable ASCII, at most 256 characters. */
export interface EntityItem {
  readonly id: string
  readonly body: string
}

export interface EntityCommit {
  readonly key: EntityKey
  /** Journal id of this node. */
  readonly writer: string
  /** The version that the change was made on. */
  readonly expected: number
  /** Greater than `expected`. */
  readonly version: number
  readonly state: string | null
  /** Versions in (expected, version], ascending; a kind without history has none. */
  readonly events: readonly EntityEvent[]
  readonly items?: readonly { readonly id: string, readonly body: string | null }[]
  /** Told to the event log: embedded in the same atomic write, in a cluster right after it, before this resolves. */
  readonly outbox: readonly OutEvent[]
}

export interface EntitySnapshot {
  readonly version: number
  readonly stamp: number
  readonly state: string | null
}

export interface EntityStore {
  getEntity(key: EntityKey): Promise<Entity>
  /** The version alone: what a reader asks that has a copy of the state (cached-entities.ts). */
  getEntityVersion(key: EntityKey): Promise<number>
  /**
   * Each is committed where the entity is still at `expected`; false where another writer was first (nothing of it is written then).
   * At most one commit for a key in one call. Survives SIGKILL when it resolves.
   * @param sync on stable storage too (what no journal holds)
   * @throws TwinfoldError `store_unavailable`: whether it was committed is not known; read the entity before the next try. Where it was, its
   *   outbox may not have been told: tell it (`appendEvents`) before the next commit. The same goes for all commits of the call.
   */
  commitEntities(commits: readonly EntityCommit[], sync: boolean): Promise<readonly boolean[]>
  /** Events with a version in [from, to], ascending, at most `limit`. Those older than the kept history are missing. */
  readEntityEvents(key: EntityKey, from: number, to: number, limit: number): Promise<readonly EntityEvent[]>
  /** Items with an id greater than `after` ('' for the first) that begins with `prefix`, ascending. */
  readEntityItems(key: EntityKey, prefix: string, after: string, limit: number): Promise<readonly EntityItem[]>
  getEntityItem(key: EntityKey, id: string): Promise<EntityItem | null>
  /** A state of the past, so that an older one need not be made from the first event on. */
  putEntitySnapshot(key: EntityKey, snapshot: EntitySnapshot): Promise<void>
  /** The newest snapshot at or below the version, or with a stamp at or before the stamp; null where none is kept. */
  findEntitySnapshot(key: EntityKey, at: { readonly version: number } | { readonly stamp: number }): Promise<EntitySnapshot | null>
  /** Takes events and snapshots with a version below the given one away; history is cut so (age, deletion). */
  dropEntityHistory(key: EntityKey, belowVersion: number): Promise<void>
  /** Every entity of the kind (of a tenant; null: of all), deleted ones too, in no stated order; changes made meanwhile may be missed. */
  scanEntities(kind: EntityKind, tenant: string | null): AsyncIterable<{ readonly key: EntityKey, readonly entity: Entity }>
}
