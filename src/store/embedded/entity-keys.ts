/**
 * Keys and values of the database `entities` (format 1), made of the pieces of key-bytes.ts. `of`: kind8 tenant 0 device 0 name 0.
 *
 *     head      of                   -> JSON [version, writer, writerFrom], a newline, the state; nothing behind the newline: deleted
 *     event     of version56         -> stamp56 body
 *     item      of id 0              -> body
 *     snapshot  of version56         -> stamp56 state8 (0: none) state
 *     log       lane8 position56     -> out-event-codec.ts
 *     logEnd                         -> the greatest position of the log that was given out before the last trim, decimal
 *
 * The kind stands before the tenant, so that a scan of one kind passes over no values of another.
 */
import type { EntityEvent, EntityItem, EntityKey, EntityKind, EntitySnapshot, Entity } from '../entity-store.js'
import { rangeOf, readText, readTime, skipText, timeBytes, writeText, writeTime } from './key-bytes.js'
import { keyVersion } from './keys.js'

export const entityTables = { head: 0x10, event: 0x11, item: 0x12, snapshot: 0x13, log: 0x20, logEnd: 0x21 } as const
const kindBytes: Readonly<Record<EntityKind, number>> = { twin: 1, commands: 2 }
const newline = 0x0a

function prefixOf (table: number, key: EntityKey, extra: number): { bytes: Buffer, at: number } {
  const bytes = Buffer.allocUnsafe(3 + key.tenant.length + key.device.length + key.name.length + 3 + extra)
  bytes[0] = keyVersion
  bytes[1] = table
  bytes[2] = kindBytes[key.kind]
  const at = writeText(bytes, writeText(bytes, writeText(bytes, 3, key.tenant), key.device), key.name)
  return { bytes, at }
}

export function headKey (key: EntityKey): Buffer {
  return prefixOf(entityTables.head, key, 0).bytes
}

/** Key of an event or a snapshot. */
export function versionKey (table: typeof entityTables.event | typeof entityTables.snapshot, key: EntityKey, version: number): Buffer {
  const { bytes, at } = prefixOf(table, key, timeBytes)
  writeTime(bytes, at, version)
  return bytes
}

export function itemKey (key: EntityKey, id: string): Buffer {
  const { bytes, at } = prefixOf(entityTables.item, key, id.length + 1)
  writeText(bytes, at, id)
  return bytes
}

/** Keys of the items whose ids begin with the prefix. */
export function itemRange (key: EntityKey, prefix: string): { gte: Buffer, lt: Buffer } {
  const whole = itemKey(key, prefix)
  return rangeOf(whole.subarray(0, whole.length - 1))
}

/** Keys of the heads of a kind, and of a tenant where there is one. */
export function headRange (kind: EntityKind, tenant: string | null): { gte: Buffer, lt: Buffer } {
  const bytes = Buffer.alloc(3 + (tenant === null ? 0 : tenant.length + 1))
  bytes[0] = keyVersion
  bytes[1] = entityTables.head
  bytes[2] = kindBytes[kind]
  if (tenant !== null) writeText(bytes, 3, tenant)
  return rangeOf(bytes)
}

export function keyOfHead (kind: EntityKind, key: Buffer): EntityKey {
  const device = skipText(key, 3)
  const name = skipText(key, device)
  return { kind, tenant: readText(key, 3, device), device: readText(key, device, name), name: readText(key, name, key.length) }
}

export function logKey (lane: number, position: number): Buffer {
  const bytes = Buffer.allocUnsafe(3 + timeBytes)
  bytes[0] = keyVersion
  bytes[1] = entityTables.log
  bytes[2] = lane
  writeTime(bytes, 3, position)
  return bytes
}

export function positionOfLogKey (key: Buffer): number {
  return readTime(key, 3)
}

export const logEndKey: Buffer = Buffer.from([keyVersion, entityTables.logEnd])

export function encodeHead ({ version, writer, writerFrom, state }: Entity): Buffer {
  const head = JSON.stringify([version, writer, writerFrom])
  return Buffer.from(state === null ? `${head}\n` : `${head}\n${state}`)
}

export function decodeHead (value: Buffer): Entity {
  const end = value.indexOf(newline)
  const [version, writer, writerFrom] = JSON.parse(value.toString('latin1', 0, end)) as [number, string, number]
  return { version, writer, writerFrom, state: end + 1 === value.length ? null : value.toString('utf8', end + 1) }
}

/** The version alone: states are large. */
export function versionOfHead (value: Buffer): number {
  return Number(value.toString('latin1', 1, value.indexOf(0x2c)))
}

export function encodeEvent ({ stamp, body }: EntityEvent): Buffer {
  const value = Buffer.allocUnsafe(timeBytes + Buffer.byteLength(body))
  value.write(body, writeTime(value, 0, stamp))
  return value
}

export function decodeEvent (key: Buffer, value: Buffer): EntityEvent {
  return { version: readTime(key, key.length - timeBytes), stamp: readTime(value, 0), body: value.toString('utf8', timeBytes) }
}

export function decodeItem (key: Buffer, from: number, value: Buffer): EntityItem {
  return { id: readText(key, from, key.length), body: value.toString() }
}

export function encodeSnapshot ({ stamp, state }: EntitySnapshot): Buffer {
  const value = Buffer.allocUnsafe(timeBytes + 1 + (state === null ? 0 : Buffer.byteLength(state)))
  const at = writeTime(value, 0, stamp)
  value[at] = state === null ? 0 : 1
  if (state !== null) value.write(state, at + 1)
  return value
}

export function stampOf (value: Buffer): number {
  return readTime(value, 0)
}

export function decodeSnapshot (key: Buffer, value: Buffer): EntitySnapshot {
  return { version: readTime(key, key.length - timeBytes), stamp: readTime(value, 0), state: value[timeBytes] === 0 ? null : value.toString('utf8', timeBytes + 1) }
}
