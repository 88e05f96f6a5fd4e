/** What the journal's tests share: directories, waiters, reading everything back, a seeded random source. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openJournal, type JournalFiles, type JournalOptions } from '../../src/journal/journal.js'
import type { CommitWaiter } from '../../src/journal/journal-types.js'
import { encodeIdentity, RecordKind } from '../../src/journal/record.js'
import { readSlice, scanRecords, type Damage } from '../../src/journal/segment-scan.js'

export const identity = encodeIdentity({ tenant: 'acme', device: 'pump-17', idempotencyKey: '', fingerprint: '' })
export const mib = 1024 * 1024

interface Teardown { teardown(undo: () => void): unknown }

export function temporaryDirectory (t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'journal-test-'))
  t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

/** A clock that stands still unless it is moved: stamps then show every step that the journal makes by itself. */
export class ManualClock implements Clock {
  us = 1_700_000_000_000_000
  nowUs (): number { return this.us }
  monotonicMs (): number { return this.us / 1000 }
}

export async function open (directory: string, more: Partial<JournalOptions> = {}): Promise<JournalFiles> {
  return await openJournal({ directory, clock: new ManualClock(), log: silentLog, diskBytesMax: 64 * mib, ...more })
}

/** Remembers which tokens were committed or failed, in order. */
export class Outcomes implements CommitWaiter {
  readonly committedTokens: number[] = []
  readonly failedTokens: number[] = []
  lastError: Error | null = null
  #wake: (() => void) | null = null
  committed (token: number): void { this.committedTokens.push(token); this.#wake?.() }
  failed (token: number, error: Error): void { this.failedTokens.push(token); this.lastError = error; this.#wake?.() }
  async settled (count: number): Promise<void> {
    while (this.committedTokens.length + this.failedTokens.length < count) {
      await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }
}

export function appendText (journal: JournalFiles, text: string, waiter: CommitWaiter | null = null, token = 0, messages = 1): number {
  return journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.from(text, 'latin1'), messages }, waiter, token)
}

/** Appends and waits until all are durable. */
export async function appendAll (journal: JournalFiles, texts: readonly string[]): Promise<number[]> {
  const outcomes = new Outcomes()
  const stamps = texts.map((text, i) => appendText(journal, text, outcomes, i))
  await outcomes.settled(texts.length)
  if (outcomes.failedTokens.length > 0) throw outcomes.lastError as Error
  return stamps
}

export interface ReadRecord {
  readonly text: string
  readonly stamp: number
  readonly position: number
}

/** All records of [from, to) but marks, and what was damaged, as a worker sees them. */
export function readBack (journal: JournalFiles, from = 0, to = journal.durableEnd): { records: ReadRecord[], damages: Damage[] } {
  const records: ReadRecord[] = []
  const damages: Damage[] = []
  for (const piece of readSlice(journal.segmentsFor(from, to), from, to)) {
    damages.push(...scanRecords(piece.buffer, piece.base, piece.from, piece.to, journal.journalId, record => {
      if (record.kind === RecordKind.mark) return
      const text = piece.buffer.toString('latin1', record.bodyStart, record.bodyEnd)
      records.push({ text, stamp: record.stamp, position: record.position })
    }, piece.segmentBase))
  }
  return { records, damages }
}

export function textsOf (journal: JournalFiles, from = 0): string[] {
  return readBack(journal, from).records.map(({ text }) => text)
}

export function segmentPaths (directory: string): string[] {
  return readdirSync(directory).filter(name => name.endsWith('.segment')).sort().map(name => join(directory, name))
}

export { seededRandom } from '../../simulators/fleet/seeded-random.js'

/** A new seed, or the one in TEST_SEED to repeat a failure. */
export function chooseSeed (): number {
  return process.env.TEST_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(process.env.TEST_SEED)
}
