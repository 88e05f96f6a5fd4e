/** What the two files of entities share of the tables' layout (schemas/cassandra/0009-entities.cql). */
import type { EntityKey } from '../../entity-store.js'

/** Part of the key layout: it never changes. */
export const entityPart = { first: 0, event: 1, item: 2, thousand: 3, snapshot: 4 } as const

/** Versions whose moved events share a partition. Part of the key layout. */
export const historyVersions = 1000

export const wherePartition = 'tenant = ? AND device = ? AND kind = ? AND name = ?'

export function partitionOf ({ tenant, device, kind, name }: EntityKey): readonly unknown[] {
  return [tenant, device, kind, name]
}

export function lockName ({ tenant, device, kind, name }: EntityKey): string {
  return `${tenant}\0${device}\0${kind}\0${name}`
}

export function thousandOf (version: number): number {
  return Math.floor(version / historyVersions)
}
