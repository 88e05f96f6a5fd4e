/**
 * Every name that the embedded store has on disk:
 *
 *     FORMAT                              version of this layout, decimal
 *     meta/                               registry, plans, cursors, dead letters, erasures, settings
 *     raw/r{days}/{window start}/         chunks, slabs and sealed rows of a retention class
 *     seen/r{days}/{window start}/        which metrics a device had on which day
 *     tier-{tier}/r{days}/{window start}/ rows of the pyramid: tier-1m, tier-1h, tier-1d
 *     idempotency/{window start}/         idempotency keys by arrival time
 *     outbox/{day}/                       what analytics has to bring over, by the day of the write
 *     entities/                           twins, command books, their histories, and the event log
 *     presence/                           which devices are connected, and when they were last heard of
 *     .trash-{name}/                      on its way out; removed at the next start if a stop came between
 *
 * Each directory that is not a level of another is one LevelDB. A window's name is its start in UTC.
 */
import { usPerDay, usPerMs } from '../../core/reading.js'
import type { Tier } from '../tier-store.js'

export const formatFileName = 'FORMAT'
export const metaName = 'meta'
export const rawName = 'raw'
export const seenName = 'seen'
export const tierNames = { '1m': 'tier-1m', '1h': 'tier-1h', '1d': 'tier-1d' } as const satisfies Record<Tier, string>
export const idempotencyName = 'idempotency'
export const outboxName = 'outbox'
export const entitiesName = 'entities'
export const presenceName = 'presence'
export const trashPrefix = '.trash-'
/** A directory is a database when it holds this file of LevelDB. */
export const databaseFileName = 'CURRENT'

export function className (retentionDays: number): string {
  return `r${retentionDays}`
}

/** The class of a directory name; null for foreign names. */
export function parseClassName (name: string): number | null {
  return /^r[1-9][0-9]{0,5}$/.test(name) ? Number(name.slice(1)) : null
}

/** `2026-11-21`, or `2026-11-21T12` where a window begins inside a day. */
export function windowName (startUs: number): string {
  const iso = new Date(startUs / usPerMs).toISOString()
  return startUs % usPerDay === 0 ? iso.slice(0, 10) : iso.slice(0, 13)
}

/** Start of the window in µs; null for foreign names. */
export function parseWindowName (name: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2})?$/.test(name)) return null
  const ms = Date.parse(name.length === 10 ? `${name}T00:00:00Z` : `${name}:00:00Z`)
  return Number.isNaN(ms) ? null : ms * usPerMs
}

export function rawPath (retentionDays: number, windowStart: number): string {
  return `${rawName}/${className(retentionDays)}/${windowName(windowStart)}`
}

export function seenPath (retentionDays: number, windowStart: number): string {
  return `${seenName}/${className(retentionDays)}/${windowName(windowStart)}`
}

export function tierPath (tier: Tier, retentionDays: number, windowStart: number): string {
  return `${tierNames[tier]}/${className(retentionDays)}/${windowName(windowStart)}`
}

export function idempotencyPath (windowStart: number): string {
  return `${idempotencyName}/${windowName(windowStart)}`
}

export function outboxPath (dayUs: number): string {
  return `${outboxName}/${windowName(dayUs)}`
}

export function trashName (path: string): string {
  return trashPrefix + path.replaceAll('/', '+')
}
