/**
 * The start bench (`npm run bench:start`): how long a server takes to be ready on much stored data. The data is written
 * through the store's own port: chunk rows of random bytes (nothing can compress them) of many devices over a year of windows.
 *
 *   --gib N       data to store (default 10; with --quick 1)
 *   --quick, --root DIR, --json FILE as for the ingest bench (default bench/results/start.json)
 */
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { systemClock } from '../src/core/clock.js'
import { silentLog } from '../src/core/log.js'
import { usPerDay, usPerHour } from '../src/core/reading.js'
import { openStore } from '../src/store/open-store.js'
import type { DeviceChunkRow, RetentionClass } from '../src/store/raw-store.js'
import { startServer } from '../test/support/server.js'
import { parseBenchArguments, type Row } from './support/bench-context.js'
import { printRows, writeReport } from './support/report.js'

const rowBytes = 16 * 1024
const rowsPerWrite = 256
const starts = 5

const args = process.argv.slice(2)
const gibAt = args.indexOf('--gib')
const gibGiven = gibAt === -1 ? undefined : Number(args.splice(gibAt, 2)[1])
const { quick, root, log, jsonFile } = parseBenchArguments(args, 'bench/results/start.json')
const totalRows = (gibGiven ?? (quick ? 1 : 10)) * 2 ** 30 / rowBytes

async function fill (directory: string): Promise<number> {
  const store = await openStore({ kind: 'embedded', directory: join(directory, 'store') }, { clock: systemClock, log: silentLog, writer: true })
  const now = systemClock.nowUs()
  const bytes = Buffer.allocUnsafe(rowBytes * rowsPerWrite)
  for (let written = 0; written < totalRows; written += rowsPerWrite) {
    randomFillSync(bytes)
    const day = Math.floor((now - written / totalRows * 360 * usPerDay) / usPerDay) * usPerDay
    const chunks = Array.from({ length: rowsPerWrite }, (_, i): DeviceChunkRow & RetentionClass => ({
      tenant: 'bench', device: `d${i}`, bucket: { start: day, widthMinutes: 1440 }, salt: 0, slice: { journalId: '00000000000000aa', mark: written }, part: 0,
      minTs: day + written % 86_400 * 1e6, maxTs: day + written % 86_400 * 1e6 + usPerHour, bytes: bytes.subarray(i * rowBytes, (i + 1) * rowBytes), retentionDays: 365
    }))
    await store.raw.writeHead({ chunks, slabs: [], seen: [] })
    if (written % (rowsPerWrite * 256) === 0) log(`${(written * rowBytes / 2 ** 30).toFixed(1)} GiB written`)
  }
  await store.raw.flush()
  const size = await store.raw.sizeBytes()
  await store.close()
  return size
}

const startedAt = new Date()
await mkdir(resolve(root), { recursive: true })
const directory = await mkdtemp(join(resolve(root), 'twinfold-start-'))
try {
  const size = await fill(directory)
  const seconds: number[] = []
  for (let i = 0; i < starts; i++) {
    const start = performance.now()
    const server = await startServer({ directory })
    seconds.push((performance.now() - start) / 1000)
    if (i % 2 === 0) await server.stop()
    else await server.kill()
  }
  seconds.sort((a, b) => a - b)
  const rows: Row[] = [{ section: 'start', what: `${(size / 2 ** 30).toFixed(1)} GiB stored`, figures: { 'ready s, median': seconds[2], 'ready s, greatest': seconds[4] } }]
  printRows(rows)
  await writeReport(jsonFile, rows, startedAt)
} finally {
  await rm(directory, { recursive: true, force: true })
}
