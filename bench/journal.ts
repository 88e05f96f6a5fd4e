/**
 * What the journal costs by itself: appends on the main thread (checksum, copy, group), durable records a second in a
 * closed loop, latency of a lone record, and the scan that workers and recovery do.
 *
 *   node dist/bench/journal.js [directory]
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/core/clock.js'
import { silentLog } from '../src/core/log.js'
import { parseSegmentFileName } from '../src/journal/filenames.js'
import { openJournal, type JournalFiles } from '../src/journal/journal.js'
import type { CommitWaiter } from '../src/journal/journal-types.js'
import { encodeIdentity, RecordKind } from '../src/journal/record.js'
import { scanRecords } from '../src/journal/segment-scan.js'

const gib = 1024 ** 3
const identity = encodeIdentity({ tenant: 'acme', device: 'pump-17', idempotencyKey: '', fingerprint: '' })
const parent = process.argv[2] ?? tmpdir()
mkdirSync(parent, { recursive: true })
const directory = mkdtempSync(join(parent, 'journal-bench-'))

class Counter implements CommitWaiter {
  left = 0
  #done: (() => void) | null = null
  committed (): void { if (--this.left === 0) this.#done?.() }
  failed (_token: number, error: Error): void { throw error }
  async all (): Promise<void> { await new Promise<void>(resolve => { this.#done = resolve }) }
}

async function burst (journal: JournalFiles, records: number, body: Buffer): Promise<{ appendUs: number, durableMs: number }> {
  const counter = new Counter()
  counter.left = records
  const options = { kind: RecordKind.bodyAuto, flags: 0, identity, body, messages: 1 }
  const start = performance.now()
  for (let i = 0; i < records; i++) journal.append(options, counter, i)
  const appended = performance.now()
  await counter.all()
  return { appendUs: (appended - start) * 1000 / records, durableMs: performance.now() - start }
}

/** `depth` records are always waiting; each commit appends one more for every record it acknowledged. */
async function closedLoop (journal: JournalFiles, depth: number, body: Buffer, forMs: number): Promise<{ perSecond: number, cpuUs: number }> {
  const options = { kind: RecordKind.bodyAuto, flags: 0, identity, body, messages: 1 }
  const end = performance.now() + forMs
  const cpu = process.cpuUsage()
  let done = 0
  let waiting = depth
  await new Promise<void>(resolve => {
    const waiter: CommitWaiter = {
      committed (token) {
        done++
        if (performance.now() < end) journal.append(options, waiter, token)
        else if (--waiting === 0) resolve()
      },
      failed (_token, error) { throw error }
    }
    for (let i = 0; i < depth; i++) journal.append(options, waiter, i)
  })
  const { user, system } = process.cpuUsage(cpu)
  return { perSecond: done / forMs * 1000, cpuUs: (user + system) / done }
}

async function loneLatencies (journal: JournalFiles, rounds: number, body: Buffer): Promise<number[]> {
  const latencies: number[] = []
  for (let i = 0; i < rounds; i++) {
    const start = performance.now()
    await burst(journal, 1, body)
    latencies.push(performance.now() - start)
  }
  return latencies.sort((a, b) => a - b)
}

function scanAll (journalId: string): { records: number, bytes: number, ms: number } {
  let records = 0
  let bytes = 0
  let ms = 0
  for (const name of readdirSync(directory).sort()) {
    const parsed = parseSegmentFileName(name)
    if (parsed === null) continue
    const buffer = readFileSync(join(directory, name))
    const start = performance.now()
    const damages = scanRecords(buffer, parsed.base, parsed.base, parsed.base + buffer.length, journalId, () => { records++ })
    ms += performance.now() - start
    bytes += buffer.length
    if (damages.length > 0) throw new Error(`${name} is damaged`)
  }
  return { records, bytes, ms }
}

const line = (what: string, value: string): void => { console.log(`${what.padEnd(44)} ${value}`) }
try {
  let journal = await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 4 * gib })
  const small = Buffer.alloc(250, 'x')
  const rounds: { appendUs: number, durableMs: number }[] = []
  for (let round = 0; round < 40; round++) rounds.push(await burst(journal, 50_000, small))
  rounds.sort((a, b) => a.appendUs - b.appendUs)
  line('append, body 250 B, µs (median of 40 bursts)', rounds[20].appendUs.toFixed(3))
  line('burst of 50,000 durable, ms', rounds[20].durableMs.toFixed(1))
  for (const depth of [50, 1000]) {
    const { perSecond, cpuUs } = await closedLoop(journal, depth, small, 2000)
    line(`closed loop, ${depth} waiting, records/s`, `${Math.round(perSecond)} (${cpuUs.toFixed(2)} µs CPU each, all threads)`)
  }
  const large = Buffer.alloc(20 * 1024, 'y')
  const { perSecond } = await closedLoop(journal, 64, large, 2000)
  line('closed loop, 64 waiting, body 20 KiB', `${Math.round(perSecond)} records/s, ${(perSecond * large.length / 1e6).toFixed(0)} MB/s`)
  const lone = await loneLatencies(journal, 200, small)
  line('a lone record, ms: median, p99', `${lone[100].toFixed(2)}, ${lone[197].toFixed(2)}`)
  const { commits, commitMsSum } = journal.stats
  line('commits, mean ms', `${commits}, ${(commitMsSum / commits).toFixed(2)}`)
  await journal.close()
  rmSync(directory, { recursive: true })

  journal = await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 4 * gib })
  while (journal.durableEnd < gib) await burst(journal, 50_000, small)
  await journal.close()
  const { records, bytes, ms } = scanAll(journal.journalId)
  line('scan, records of 250 B', `${(bytes / 1e6 / ms * 1000).toFixed(0)} MB/s, 1 GiB in ${(ms * gib / bytes).toFixed(0)} ms (${records} records)`)
  const start = performance.now()
  journal = await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 4 * gib })
  line('open with 1 GiB unpacked, ms', (performance.now() - start).toFixed(0))
  await journal.close()
} finally {
  rmSync(directory, { recursive: true, force: true })
}
