/**
 * `twinfold journal adopt DIR`: packs and applies what a dead node's journal still holds, into the cluster's store, so that what the node
 * had acknowledged becomes visible without it (INVARIANTS 1). Its disk is mounted on this machine, writable.
 *
 * Safe to interrupt and to repeat: it goes on at the journal's cursor, and a slice that is packed again writes the same rows
 * under the same keys, because its bounds are marks in the journal and its rows are keyed by the journal's id. From its first
 * moment on no server starts on the directory (journal/adoption.ts). It must not run while the node does.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeLeaseMs, type Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { Log } from './core/log.js'
import { applyAdopted, type AppliedBy } from './adopt-messages.js'
import { projectAdopted } from './adopt-projection.js'
import { readAdoption, writeAdoption } from './journal/adoption.js'
import { parseSegmentFileName } from './journal/filenames.js'
import { openJournal, type JournalFiles } from './journal/journal.js'
import { packedDurablyCursor } from './pipeline/journal-keeper.js'
import { Packer, packedCursor } from './pipeline/packer.js'
import { PackPool } from './pipeline/pack-pool.js'
import { readBootId, startCursor } from './pipeline/start-cursor.js'
import type { NodeSeen } from './store/node-store.js'
import { openStore } from './store/open-store.js'
import type { Store } from './store/store.js'
import type { ClickHouseSettings, StoreSpec } from '../workers/protocol.js'

export interface AdoptOptions {
  /** The journal's directory, or the data directory that holds it as `journal`. */
  readonly directory: string
  readonly store: StoreSpec
  readonly packThreads: number
  /** Nodes that were heard of lately: a journal whose node lives is refused. Empty where nobody could be asked. */
  readonly nodes: readonly NodeSeen[]
  /** Makes those that apply what devices said beside telemetry; absent: nobody does, and it stays in the journal. */
  readonly appliedBy?: (store: Store, journal: JournalFiles) => Promise<AppliedBy>
  /** Absent: there is no analytics. */
  readonly clickHouse?: ClickHouseSettings
  readonly clock: Clock
  readonly log: Log
}

export interface AdoptResult {
  readonly journalId: string
  /** It was adopted before; nothing was done. */
  readonly already: boolean
  readonly slices: number
  readonly readings: number
  readonly points: number
  /** Reported states, answers to commands and events. */
  readonly messages: number
  /** Records that could not be read: passed over and reported in the log. */
  readonly damagedRecords: number
  /** Why not all of it is in analytics; '' where it is, or there is none. */
  readonly notInAnalytics?: string
}

const leaseMs = 10_000
const slabsPerTask = 4000

/**
 * Resolves when everything is in the store and the directory says so. A store that does not answer is waited for.
 * @throws TwinfoldError `not_found` (no journal there), `already_exists` (its node runs), `corrupt_data`, `format_newer`
 */
export async function adoptJournal (options: AdoptOptions): Promise<AdoptResult> {
  const { clock, log } = options
  const { directory, journalId } = findJournal(options.directory)
  const before = readAdoption(directory)
  if (before?.state === 'done') return { journalId, already: true, slices: 0, readings: 0, points: 0, messages: 0, damagedRecords: 0 }
  const living = options.nodes.find(node => node.journalId === journalId && node.silentMs <= nodeLeaseMs)
  if (living !== undefined) throw new TwinfoldError('already_exists', `node '${living.name}' runs on journal ${journalId}; an adoption is for a node that is gone`)
  const store = await openStore(options.store, { clock, log, writer: true })
  try {
    if (before === null) writeAdoption(directory, { state: 'begun', journalId, atUs: clock.nowUs() })
    const journal = await openJournal({
      directory, clock, log, adopting: true, diskBytesMax: Number.MAX_SAFE_INTEGER, cursorOf: async id => await startCursor(store, id, readBootId())
    })
    try {
      const packed = await packAll(options, store, journal)
      const messages = await applyAll(options, store, journal)
      writeAdoption(directory, { state: 'done', journalId, atUs: clock.nowUs() })
      return { journalId, already: false, messages, ...packed }
    } finally {
      await journal.close()
    }
  } finally {
    await store.close()
  }
}

function findJournal (given: string): { directory: string, journalId: string } {
  for (const directory of [given, join(given, 'journal')]) {
    if (!existsSync(directory)) continue
    for (const name of readdirSync(directory)) {
      const segment = parseSegmentFileName(name)
      if (segment !== null) return { directory, journalId: segment.journalId }
    }
  }
  throw new TwinfoldError('not_found', `${given} holds no journal: give the data directory of the node that is gone, or its folder 'journal'`)
}

async function applyAll ({ appliedBy: make, clock, log }: AdoptOptions, store: Store, journal: JournalFiles): Promise<number> {
  if (make === undefined) return 0
  const appliedBy = await make(store, journal)
  try {
    return await applyAdopted({ store, journal, appliedBy, clock, log })
  } finally {
    await appliedBy.close()
  }
}

async function packAll (options: AdoptOptions, store: Store, journal: JournalFiles): Promise<Omit<AdoptResult, 'journalId' | 'already' | 'messages'>> {
  const { clock, log } = options
  const pool = new PackPool({ store: options.store, threads: options.packThreads, leaseMs })
  try {
    const packer = new Packer({ journal, cursors: store, pool, clock, log, sliceIntervalMs: 10, onPacked: () => {} },
      { cursor: journal.recovered.cursor, marks: journal.recovered.marks })
    packer.open()
    while (!await packer.drain(10_000)) log.info({ unpackedBytes: packer.backlogBytes, slices: packer.stats.slices }, 'the journal is being packed')
    await packer.close()
    // Nobody else merges the slabs of this journal, and it will never have more: all of them, and once more, so that a
    // cluster's store forgets the periods that are empty by then.
    for (let empty = 0; empty < 2;) {
      const { slabs } = await pool.merge({ kind: 'merge', journalId: journal.journalId, before: Infinity, slabsMax: slabsPerTask })
      if (slabs === 0) empty++
    }
    await store.raw.flush()
    for (const name of [packedCursor, packedDurablyCursor]) await store.putCursor(journal.journalId, name, packer.cursor, true)
    const { slices, readings, points, damagedRecords } = packer.stats
    const { clickHouse } = options
    const notInAnalytics = clickHouse === undefined
      ? null
      : await projectAdopted({ journalId: journal.journalId, packer, cursors: store, store: options.store, clickHouse, clock, log })
    return { slices, readings, points, damagedRecords, ...(notInAnalytics === null ? {} : { notInAnalytics }) }
  } finally {
    await pool.close()
  }
}
