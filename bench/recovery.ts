/**
 * The recovery bench (`npm run bench:recovery`): a server with a large journal dies by SIGKILL and its store is put back to
 * what it was before the load, as if no flush had ever reached the disk. How long until it is ready, and until every reading
 * of the journal is queryable again?
 *
 *   --mib N       journal to replay (default 1024; with --quick 128)
 *   --quick, --root DIR, --json FILE as for the ingest bench (default bench/results/recovery.json)
 */
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { TwinfoldApi } from '../simulators/twinfold-api.js'
import { startServer, testAdminKey, type TestServer } from '../test/support/server.js'
import { parseBenchArguments, type Row } from './support/bench-context.js'
import { runFleet } from './support/fleet-run.js'
import { directoryBytes } from './support/process-meter.js'
import { printRows, writeReport } from './support/report.js'

const devices = 50
const pointsPerMessage = 10
/** Load comes in pieces until the journal is large enough. */
const pieceSeconds = 2
const replayTimeoutMs = 600_000

/** Nothing is released before the end, and senders are not slowed because packing falls behind. */
const settings = { TWINFOLD_JOURNAL_KEEP_MS: '86400000', TWINFOLD_LAG_MS_MAX: '3600000' }

const args = process.argv.slice(2)
const mibAt = args.indexOf('--mib')
const mibGiven = mibAt === -1 ? undefined : Number(args.splice(mibAt, 2)[1])
const { quick, root, log, jsonFile } = parseBenchArguments(args, 'bench/results/recovery.json')
const journalBytes = (mibGiven ?? (quick ? 128 : 1024)) * 1024 * 1024

async function load (server: TestServer, key: string, journal: string): Promise<number> {
  let messages = 0
  while (await directoryBytes(journal) < journalBytes) {
    const run = await runFleet(['--port', server.mqttPort, '--connections', devices, '--in-flight', 200, '--devices', devices, '--key', key, '--ts', '--seconds', pieceSeconds, '--warm-up-seconds', 0], server.pid)
    messages += run.acked
    log(`${messages} messages, ${Math.round(await directoryBytes(journal) / 2 ** 20)} MiB of journal`)
  }
  return messages
}

async function count (api: TwinfoldApi): Promise<number> {
  let readings = 0
  for await (const _reading of api.readings('d0', 0, Date.now() + 3600_000, 5000)) readings++
  return readings
}

const startedAt = new Date()
await mkdir(resolve(root), { recursive: true })
const base = await mkdtemp(join(resolve(root), 'twinfold-recovery-'))
const directory = join(base, 'data')
let server = await startServer({ directory, settings })
try {
  const key = await server.api(testAdminKey).createTenant('bench', 3650)
  await server.api(key).createDevices(Array.from({ length: devices }, (_, i) => `d${i}`))
  await server.stop()
  await cp(join(directory, 'store'), join(base, 'store-before'), { recursive: true })
  server = await startServer({ directory, settings })
  const messages = await load(server, key, join(directory, 'journal'))
  await server.api(key).drain(replayTimeoutMs)
  const readingsBefore = await count(server.api(key))
  await server.kill()
  const bytes = await directoryBytes(join(directory, 'journal'))

  // The kill alone: the store has everything, a little is packed again.
  server = await startServer({ directory, settings })
  const killStartMs = server.startMs
  await server.api(key).drain(replayTimeoutMs)
  await server.kill()

  // The kill, and a store that knows nothing of the load.
  await rm(join(directory, 'store'), { recursive: true })
  await cp(join(base, 'store-before'), join(directory, 'store'), { recursive: true })
  const startedMs = performance.now()
  server = await startServer({ directory, settings, readyTimeoutMs: replayTimeoutMs })
  const readyMs = performance.now() - startedMs
  await server.api(key).drain(replayTimeoutMs)
  const packedMs = performance.now() - startedMs
  const readingsAfter = await count(server.api(key))
  const rows: Row[] = [
    { section: 'recovery', what: 'start after SIGKILL', figures: { 'ready ms': Math.round(killStartMs) } },
    {
      section: 'recovery',
      what: `replay of ${Math.round(bytes / 2 ** 20)} MiB of journal`,
      figures: { messages, 'ready ms': Math.round(readyMs), 'all queryable ms': Math.round(packedMs), 'messages/s': Math.round(messages * 1000 / packedMs), 'points/s': Math.round(messages * pointsPerMessage * 1000 / packedMs), 'readings of one device before': readingsBefore, after: readingsAfter }
    }
  ]
  printRows(rows)
  await writeReport(jsonFile, rows, startedAt)
  if (readingsAfter !== readingsBefore) throw new Error(`after the replay a device has ${readingsAfter} readings instead of ${readingsBefore}`)
} finally {
  await server.kill()
  await rm(base, { recursive: true, force: true, maxRetries: 5 })
}
