/** Sections `latency`, `packer` and `idle`: what the server does below its limit. */
import { closeSync, fdatasyncSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { LatencyHistogram } from '../../simulators/fleet/latency-histogram.js'
import type { BenchContext, Row } from './bench-context.js'
import { startBaseline, startContestant } from './contestants.js'
import { holdIdleFleet, runFleet, type FleetMeasurement } from './fleet-run.js'
import { directoryBytes, peakResidentKib, residentKib } from './process-meter.js'
import { median } from './statistics.js'

const latencyConnections = 50
const latencyRate = 5000
/** About what a group holds at that rate. */
const syncBlockBytes = 4096

/** The disk's own latency: append and fdatasync, one after the other. */
function syncLoop (directory: string, seconds: number): LatencyHistogram {
  const path = join(directory, `sync-loop-${process.pid}`)
  const histogram = new LatencyHistogram()
  const block = Buffer.alloc(syncBlockBytes, 0x5a)
  const file = openSync(path, 'w')
  try {
    const endMs = performance.now() + seconds * 1000
    for (let startMs = performance.now(); startMs < endMs; startMs = performance.now()) {
      writeSync(file, block)
      fdatasyncSync(file)
      histogram.add(performance.now() - startMs)
    }
  } finally {
    closeSync(file)
    unlinkSync(path)
  }
  return histogram
}

export async function latencySection (context: BenchContext): Promise<Row[]> {
  const load = ['--connections', latencyConnections, '--in-flight', 1024, '--rate', latencyRate, '--seconds', context.seconds, '--warm-up-seconds', context.warmUpSeconds]
  const disk: LatencyHistogram[] = []
  const theirs: FleetMeasurement[] = []
  const ours: FleetMeasurement[] = []
  const aedes = await startBaseline('bare-aedes')
  const contestant = await startContestant(context.root, latencyConnections)
  try {
    for (let round = 0; round < context.rounds; round++) {
      disk.push(syncLoop(context.root, context.seconds / 2))
      theirs.push(await runFleet(['--port', aedes.port, ...load], aedes.pid))
      ours.push(await runFleet(['--port', contestant.server.mqttPort, '--tokens', contestant.tokensFile, ...load], contestant.server.pid))
      context.log(`latency round ${round + 1}: fdatasync p99 ${disk[round].quantileMs(0.99).toFixed(2)} ms, bare Aedes ${theirs[round].p99Ms.toFixed(2)} ms, Twinfold ${ours[round].p99Ms.toFixed(2)} ms`)
    }
  } finally {
    await aedes.stop()
    await contestant.remove()
  }
  const figures = (runs: readonly FleetMeasurement[]): Row['figures'] => ({
    'messages/s': Math.round(median(runs.map(run => run.messagesPerSecond))), 'p50 ms': median(runs.map(run => run.p50Ms)), 'p99 ms': median(runs.map(run => run.p99Ms)), 'max ms': Math.max(...runs.map(run => run.maxMs)), 'CPU µs': median(runs.map(run => run.serverCpuUs))
  })
  return [
    { section: 'latency', what: 'append 4 KiB + fdatasync, alone', figures: { 'p50 ms': median(disk.map(one => one.quantileMs(0.5))), 'p99 ms': median(disk.map(one => one.quantileMs(0.99))), 'max ms': Math.max(...disk.map(one => one.maxMs)) } },
    { section: 'latency', what: `bare Aedes at ${latencyRate}/s`, figures: figures(theirs) },
    { section: 'latency', what: `Twinfold at ${latencyRate}/s`, figures: figures(ours) }
  ]
}

const packerRate = 60_000
const packerConnections = 50
const packerProbesPerSecond = 20

/** 60,000 readings a second from 1,000 and from 100,000 devices: are acknowledged readings queryable within 2 s? */
export async function packerSection (context: BenchContext): Promise<Row[]> {
  const rows: Row[] = []
  for (const devices of [1000, context.quick ? 10_000 : 100_000]) {
    const contestant = await startContestant(context.root, devices)
    try {
      const run = await runFleet([
        '--port', contestant.server.mqttPort, '--connections', packerConnections, '--in-flight', 1024, '--rate', packerRate, '--devices', devices, '--key', contestant.key, '--ts',
        '--seconds', context.quick ? 10 : 60, '--warm-up-seconds', context.warmUpSeconds, '--probe', contestant.server.httpUrl, '--probes-per-second', packerProbesPerSecond
      ], contestant.server.pid)
      const endedMs = performance.now()
      await contestant.drain()
      const drainMs = performance.now() - endedMs
      const { visibility } = run
      const peakMib = Math.round(peakResidentKib(contestant.server.pid) / 1024)
      await contestant.stop()
      const bytes = await directoryBytes(join(contestant.directory, 'store'))
      rows.push({
        section: 'packer',
        what: `${packerRate}/s, ${devices} devices`,
        figures: {
          'messages/s': Math.round(run.messagesPerSecond), 'sent late': run.behind, 'ack p99 ms': run.p99Ms, 'seen p50 ms': visibility?.p50Ms ?? 0, 'seen p99 ms': visibility?.p99Ms ?? 0, 'seen max ms': visibility?.maxMs ?? 0,
          probes: visibility?.probes ?? 0, missing: visibility?.missing ?? 0, 'CPU µs': run.serverCpuUs, 'peak MiB': peakMib, 'drain ms': Math.round(drainMs), 'bytes/point': bytes / (run.acked * 10)
        }
      })
    } finally {
      await contestant.remove()
    }
  }
  return rows
}

const idleConnections = 5000
const settleMs = 3000

/** What a connection with one subscription costs while nothing happens. */
export async function idleSection (context: BenchContext): Promise<Row[]> {
  const measure = async (pid: number, args: readonly (string | number)[]): Promise<number> => {
    const beforeKib = residentKib(pid)
    const fleet = await holdIdleFleet(['--connections', idleConnections, ...args])
    await new Promise(resolve => { setTimeout(resolve, settleMs) })
    const perConnection = (residentKib(pid) - beforeKib) / idleConnections
    await fleet.stop()
    return perConnection
  }
  const aedes = await startBaseline('bare-aedes')
  const contestant = await startContestant(context.root, idleConnections)
  try {
    const theirs = await measure(aedes.pid, ['--port', aedes.port])
    const ours = await measure(contestant.server.pid, ['--port', contestant.server.mqttPort, '--tokens', contestant.tokensFile])
    return [
      { section: 'idle', what: `${idleConnections} connections, bare Aedes`, figures: { 'KiB each': theirs } },
      { section: 'idle', what: `${idleConnections} connections, Twinfold`, figures: { 'KiB each': ours } }
    ]
  } finally {
    await aedes.stop()
    await contestant.remove()
  }
}
