/**
 * Sections `mqtt` and `http`: the most that each server takes, in interleaved rounds. The servers run throughout, so that
 * each is warm, and the real server packs what it took before the next one is measured.
 */
import { join } from 'node:path'
import type { BenchContext, Row } from './bench-context.js'
import { startBaseline, startContestant } from './contestants.js'
import { runFleet, type FleetMeasurement } from './fleet-run.js'
import { directoryBytes, peakResidentKib } from './process-meter.js'
import { median, pairedRatio } from './statistics.js'

/** A shape of load: connections × publishes in flight. */
const shapes = [{ connections: 50, inFlight: 20 }, { connections: 2000, inFlight: 1 }] as const
const httpConnections = 50
const pointsPerMessage = 10
const readingsPerPost = 100

function timing ({ seconds, warmUpSeconds }: BenchContext): (string | number)[] {
  return ['--seconds', seconds, '--warm-up-seconds', warmUpSeconds]
}

function row (section: string, what: string, runs: readonly FleetMeasurement[], more: Row['figures'] = {}): Row {
  const of = (pick: (run: FleetMeasurement) => number): number => median(runs.map(pick))
  return {
    section,
    what,
    figures: {
      'messages/s': Math.round(of(run => run.messagesPerSecond)),
      'p50 ms': of(run => run.p50Ms),
      'p99 ms': of(run => run.p99Ms),
      'CPU µs': of(run => run.serverCpuUs),
      'generator µs': of(run => run.generatorCpuUs),
      ...more
    }
  }
}

function ratios (ours: readonly FleetMeasurement[], theirs: readonly FleetMeasurement[]): Row['figures'] {
  const { median: middle, least, greatest } = pairedRatio(ours.map(run => run.messagesPerSecond), theirs.map(run => run.messagesPerSecond))
  return { ratio: middle, 'ratio least': least, 'ratio greatest': greatest }
}

export async function mqttSection (context: BenchContext): Promise<Row[]> {
  const rows: Row[] = []
  for (const shape of shapes) {
    const name = `${shape.connections}x${shape.inFlight}`
    const load = ['--connections', shape.connections, '--in-flight', shape.inFlight, ...timing(context)]
    const alone: FleetMeasurement[] = []
    const theirs: FleetMeasurement[] = []
    const ours: FleetMeasurement[] = []
    const aedes = await startBaseline('bare-aedes')
    const contestant = await startContestant(context.root, shape.connections)
    try {
      for (let round = 0; round < context.rounds; round++) {
        alone.push(await runFleet(['--mode', 'self-test', ...load], undefined))
        theirs.push(await runFleet(['--port', aedes.port, ...load], aedes.pid))
        ours.push(await runFleet(['--port', contestant.server.mqttPort, '--tokens', contestant.tokensFile, ...load], contestant.server.pid))
        await contestant.drain()
        context.log(`mqtt ${name} round ${round + 1}: generator ${Math.round(alone[round].messagesPerSecond)}, bare Aedes ${Math.round(theirs[round].messagesPerSecond)}, Twinfold ${Math.round(ours[round].messagesPerSecond)} messages/s`)
      }
      const aedesMib = Math.round(peakResidentKib(aedes.pid) / 1024)
      const ourMib = Math.round(peakResidentKib(contestant.server.pid) / 1024)
      await contestant.stop()
      const points = ours.reduce((sum, run) => sum + run.acked, 0) * pointsPerMessage
      const bytes = await directoryBytes(join(contestant.directory, 'store'))
      rows.push(row('mqtt', `${name} generator alone`, alone))
      rows.push(row('mqtt', `${name} bare Aedes, nothing stored`, theirs, { 'peak MiB': aedesMib }))
      rows.push(row('mqtt', `${name} Twinfold, durable`, ours, { 'peak MiB': ourMib, ...ratios(ours, theirs), 'bytes/point': bytes / points }))
    } finally {
      await aedes.stop()
      await contestant.remove()
    }
  }
  return rows
}

export async function httpSection (context: BenchContext): Promise<Row[]> {
  const load = ['--mode', 'http', '--connections', httpConnections, '--readings', readingsPerPost, ...timing(context)]
  const theirs: FleetMeasurement[] = []
  const ours: FleetMeasurement[] = []
  const fastify = await startBaseline('bare-fastify')
  const contestant = await startContestant(context.root, httpConnections)
  try {
    for (let round = 0; round < context.rounds; round++) {
      theirs.push(await runFleet(['--port', fastify.port, ...load], fastify.pid))
      ours.push(await runFleet(['--port', contestant.server.httpPort, '--tokens', contestant.tokensFile, ...load], contestant.server.pid))
      await contestant.drain()
      context.log(`http round ${round + 1}: bare Fastify ${Math.round(theirs[round].messagesPerSecond)}, Twinfold ${Math.round(ours[round].messagesPerSecond)} POSTs/s, slowed ${ours[round].slowed}, refused ${ours[round].refused}`)
    }
    const pointsPerSecond = (runs: readonly FleetMeasurement[]): number => Math.round(median(runs.map(run => run.messagesPerSecond)) * readingsPerPost * pointsPerMessage)
    return [
      row('http', 'bare Fastify, body dropped', theirs, { 'points/s': pointsPerSecond(theirs), 'peak MiB': Math.round(peakResidentKib(fastify.pid) / 1024) }),
      row('http', 'Twinfold, durable', ours, { 'points/s': pointsPerSecond(ours), 'peak MiB': Math.round(peakResidentKib(contestant.server.pid) / 1024), slowed: ours.reduce((sum, run) => sum + run.slowed, 0), ...ratios(ours, theirs) })
    ]
  } finally {
    await fastify.stop()
    await contestant.remove()
  }
}
