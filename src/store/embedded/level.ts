/**
 * LevelDB as the store uses it: options per kind of database, and the version row that every database carries.
 * The figures behind the options are in docs/adr/0002-embedded-store.md.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { TwinfoldError } from '../../core/errors.js'
import { databaseFileName, entitiesName, idempotencyName, metaName, outboxName, presenceName, rawName, seenName, tierNames } from './filenames.js'
import { storeError } from './store-errors.js'

export type Database = ClassicLevel<Uint8Array, Uint8Array>
export type Operation =
  | { readonly type: 'put', readonly key: Uint8Array, readonly value: Uint8Array }
  | { readonly type: 'del', readonly key: Uint8Array }

export const put = (key: Uint8Array, value: Uint8Array): Operation => ({ type: 'put', key, value })
export const del = (key: Uint8Array): Operation => ({ type: 'del', key })
export const emptyValue = Buffer.alloc(0)

/** Version of the key layout and of the files; a greater one is refused by name. */
export const storeFormat = 1

const KIB = 1024
const MIB = 1024 * KIB

interface Tuning {
  readonly writeBufferSize: number
  readonly blockSize: number
  readonly maxFileSize: number
  readonly cacheSize: number
  readonly maxOpenFiles: number
  readonly compression: boolean
}

const tunings: Readonly<Record<string, Tuning>> = {
  [rawName]: { writeBufferSize: 16 * MIB, blockSize: 64 * KIB, maxFileSize: 32 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 200, compression: true },
  [metaName]: { writeBufferSize: 8 * MIB, blockSize: 4 * KIB, maxFileSize: 8 * MIB, cacheSize: 32 * MIB, maxOpenFiles: 200, compression: true },
  [seenName]: { writeBufferSize: 4 * MIB, blockSize: 16 * KIB, maxFileSize: 8 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 100, compression: true },
  [tierNames['1m']]: { writeBufferSize: 8 * MIB, blockSize: 16 * KIB, maxFileSize: 32 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 100, compression: true },
  [tierNames['1h']]: { writeBufferSize: 8 * MIB, blockSize: 16 * KIB, maxFileSize: 32 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 100, compression: true },
  [tierNames['1d']]: { writeBufferSize: 4 * MIB, blockSize: 16 * KIB, maxFileSize: 32 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 100, compression: true },
  [outboxName]: { writeBufferSize: 4 * MIB, blockSize: 16 * KIB, maxFileSize: 8 * MIB, cacheSize: 1 * MIB, maxOpenFiles: 100, compression: true },
  [entitiesName]: { writeBufferSize: 16 * MIB, blockSize: 8 * KIB, maxFileSize: 16 * MIB, cacheSize: 32 * MIB, maxOpenFiles: 400, compression: true },
  [presenceName]: { writeBufferSize: 4 * MIB, blockSize: 4 * KIB, maxFileSize: 8 * MIB, cacheSize: 8 * MIB, maxOpenFiles: 100, compression: true },
  [idempotencyName]: { writeBufferSize: 4 * MIB, blockSize: 4 * KIB, maxFileSize: 8 * MIB, cacheSize: 4 * MIB, maxOpenFiles: 100, compression: true }
}

/** Sorts before every other key. */
const formatKey = Buffer.from('\0format', 'latin1')
/** A row that is written to see whether a database takes writes. */
const probeKey = Buffer.from('\0probe', 'latin1')
/** A range behind every key: compacting it empties the memory table and touches no file. */
const noKeys = { from: Buffer.from([0xff]), to: Buffer.from([0xff, 0xff]) }

export function databaseExists (directory: string, path: string): boolean {
  return existsSync(join(directory, path, databaseFileName))
}

/**
 * A handle of its own; LevelDB itself is shared by all handles of the process.
 * @param create makes the database and its version row where there is none.
 * @throws TwinfoldError `store_unavailable`, `corrupt_data` or `format_newer`.
 */
export async function openDatabase (directory: string, path: string, create: boolean): Promise<Database> {
  const database: Database = new ClassicLevel<Uint8Array, Uint8Array>(join(directory, path), {
    ...tunings[path.split('/')[0]], keyEncoding: 'view', valueEncoding: 'view', multithreading: true, createIfMissing: create
  })
  try {
    await database.open()
    await checkFormat(database, path, create)
  } catch (error) {
    await database.close().catch(() => {})
    throw storeError(error, path)
  }
  return database
}

async function checkFormat (database: Database, path: string, create: boolean): Promise<void> {
  const stored = await database.get(formatKey)
  if (stored === undefined) {
    if (create) await database.put(formatKey, Buffer.from(String(storeFormat)))
    return
  }
  assertFormat(Buffer.from(stored).toString('latin1'), database.location, path)
}

/** @throws TwinfoldError `format_newer` or `corrupt_data`. */
export function assertFormat (text: string, location: string, path: string): void {
  const version = Number(text)
  if (!Number.isInteger(version) || version < 1) throw new TwinfoldError('corrupt_data', `the store's format mark in ${path} is damaged`)
  if (version > storeFormat) {
    throw new TwinfoldError('format_newer', `${location} has store format ${version}; this version of Twinfold reads up to ${storeFormat}. Start the newer version, or use another data directory`)
  }
}

/** Moves the memory table into a synced table file and begins a new log. Errors show in the next write only. */
export async function rotate (database: Database): Promise<void> {
  await database.compactRange(noKeys.from, noKeys.to)
}

/** Rejects where LevelDB does not take writes. */
export async function probe (database: Database): Promise<void> {
  await database.put(probeKey, emptyValue, { sync: true })
}

/** Rewrites everything, dropping what was overwritten and deleted. */
export async function compactAll (database: Database): Promise<void> {
  await database.compactRange(Buffer.from([0]), noKeys.to)
}

/** Rewrites what lies in a range, dropping what was overwritten and deleted there. */
export async function compactKeys (database: Database, { gte, lt }: { readonly gte: Uint8Array, readonly lt: Uint8Array }): Promise<void> {
  await database.compactRange(gte, lt)
}
