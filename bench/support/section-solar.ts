/** Section `solar`: real data at full speed, and what it takes on disk. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { replaySolar } from '../../simulators/solar-replay.js'
import type { BenchContext, Row } from './bench-context.js'
import { startContestant } from './contestants.js'
import { directoryBytes } from './process-meter.js'

const devices = 20
const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))

/** Compacts the store of a stopped server with the server's own command. @throws Error when it fails */
async function compactStore (directory: string): Promise<void> {
  const child = spawn(process.execPath, [mainFile, '--compact'], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, TWINFOLD_DATA: directory, TWINFOLD_LOG: 'warn' } })
  const [code] = await once(child, 'exit') as [number | null]
  if (code !== 0) throw new Error(`compaction ended with ${String(code)}`)
}

export async function solarSection (context: BenchContext): Promise<Row[]> {
  const contestant = await startContestant(context.root, 0, { TWINFOLD_MERGE_AFTER_MS: '1000' })
  try {
    const summary = await replaySolar({
      data: context.data, months: [], devices, devicePrefix: 'plant-', speed: Infinity, shift: true, staggerMs: 0, qos: 1, inFlight: 500,
      server: `mqtt://127.0.0.1:${contestant.server.mqttPort}`, http: contestant.server.httpUrl, key: contestant.key, tokens: [], quiet: true
    })
    const endedMs = performance.now()
    await contestant.drain()
    const drainMs = performance.now() - endedMs
    await contestant.stop()
    const store = join(contestant.directory, 'store')
    const beforeBytes = await directoryBytes(store)
    await compactStore(contestant.directory)
    const bytes = await directoryBytes(store)
    return [{
      section: 'solar',
      what: `${devices} plants at full speed (mqtt.js)`,
      figures: {
        readings: summary.acked, 'points/s': Math.round(summary.pointsPerSecond), 'drain ms': Math.round(drainMs), 'bytes/point': beforeBytes / summary.points, 'bytes/point compacted': bytes / summary.points
      }
    }]
  } finally {
    await contestant.remove()
  }
}
