/** Section `solar`: real data at full speed, and what it takes on disk. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { replaySolar } from '../../simulators/solar-replay.js'
import type { BenchContext, Row } from './bench-context.js'
import { startContestant } from './contestants.js'
import { directoryBytes } from './process-meter.js'

const devices = 20
const compactFile = fileURLToPath(new URL('../../src/compact.js', import.meta.url))

/**
 * Compacts the store of a stopped server with the project's own command, where this build has one.
 * Returns false where it has none: the figure is then that of a store that compacted in the background only.
 */
export async function compactStore (directory: string): Promise<boolean> {
  if (!existsSync(compactFile)) return false
  const child = spawn(process.execPath, [compactFile, directory], { stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = await once(child, 'exit') as [number | null]
  if (code !== 0) throw new Error(`compaction ended with ${String(code)}`)
  return true
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
    const compacted = await compactStore(contestant.directory)
    const bytes = await directoryBytes(store)
    return [{
      section: 'solar',
      what: `${devices} plants at full speed (mqtt.js)`,
      figures: {
        readings: summary.acked, 'points/s': Math.round(summary.pointsPerSecond), 'drain ms': Math.round(drainMs), 'bytes/point': beforeBytes / summary.points, 'bytes/point compacted': compacted ? bytes / summary.points : 'no command'
      }
    }]
  } finally {
    await contestant.remove()
  }
}
