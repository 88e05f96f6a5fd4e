#!/usr/bin/env node
/**
 * A fleet of devices as a load generator (see fleetUsage). It runs as a process of its own, beside the server: its raw
 * sockets and finished packets cost far less per message than what is measured, and `--mode self-test` shows by how much.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { startAckSink } from './fleet/ack-sink.js'
import { fleetUsage, parseFleetOptions, type FleetOptions } from './fleet/fleet-options.js'
import { holdIdle } from './fleet/idle-connections.js'
import { HttpLoad } from './fleet/http-load.js'
import type { LatencyHistogram } from './fleet/latency-histogram.js'
import { MqttLoad } from './fleet/mqtt-load.js'
import { packetIdMax } from './fleet/packets.js'
import { WalkingMetrics } from './fleet/payloads.js'
import { PublishRing } from './fleet/publish-ring.js'
import { seededRandom } from './fleet/seeded-random.js'
import { VisibilityProbe, type ProbeResult } from './fleet/visibility-probe.js'

/** Publishes in a ring that connections share, and in one of a single device. */
const sharedRingLength = 4096
const ownRingLength = 256

const wallClockUs = (): number => Math.floor((performance.timeOrigin + performance.now()) * 1000)

/** What a run measured. Rates are per second of measured time; a POST counts as one message. */
export interface FleetResult {
  readonly messages: number
  readonly seconds: number
  readonly messagesPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** CPU of the generator itself, µs per message. */
  readonly generatorCpuUs: number
  /** Messages that an open loop could not send in time. */
  readonly behind: number
  /** Of the whole run, warm-up included, after the end. */
  readonly sent: number
  readonly acked: number
  readonly slowed: number
  readonly refused: number
  readonly visibility: ProbeResult | null
}

/** The device that ring position `index` of a connection publishes for. */
function deviceOf (options: FleetOptions, connection: number, index: number): string {
  const perConnection = Math.max(1, Math.floor((options.devices - connection - 1) / options.connections) + 1)
  return `${options.devicePrefix}${connection + index % perConnection * options.connections}`
}

function ringFactory (options: FleetOptions): (connection: number) => PublishRing {
  const random = seededRandom(options.seed)
  const least = Math.max(options.inFlight, 1)
  if (options.devices > 0) {
    const perConnection = Math.ceil(options.devices / options.connections)
    const length = Math.min(packetIdMax, Math.ceil(Math.max(ownRingLength, least) / perConnection) * perConnection)
    return connection => new PublishRing({
      length, topicOf: index => `devices/${deviceOf(options, connection, index)}/telemetry`, metrics: new WalkingMetrics(options.metrics, random), stamped: options.stamped
    })
  }
  const make = (length: number): PublishRing => new PublishRing({ length: Math.max(length, least), topicOf: () => 'telemetry', metrics: new WalkingMetrics(options.metrics, random), stamped: options.stamped })
  if (options.stamped) return () => make(ownRingLength)
  const shared = make(sharedRingLength)
  return () => shared
}

function emit (options: FleetOptions, event: Record<string, unknown>): void {
  if (options.json) process.stdout.write(`${JSON.stringify(event)}\n`)
}

interface Measurable {
  start(): void
  failure(): Promise<never>
  takeLatency(): LatencyHistogram
  close(): void
}

/** Runs warm-up and measurement; `acked` counts the messages so far, `drained` ends the sending. */
async function measure (options: FleetOptions, load: Measurable, acked: () => number, drained: () => Promise<Partial<FleetResult>>, behind: () => number): Promise<FleetResult> {
  const sleep = async (ms: number): Promise<void> => { await Promise.race([new Promise<void>(resolve => { setTimeout(resolve, ms) }), load.failure()]) }
  load.start()
  await sleep(options.warmUpSeconds * 1000)
  load.takeLatency()
  emit(options, { event: 'measuring' })
  const cpuBefore = process.cpuUsage()
  const ackedBefore = acked()
  const startedMs = performance.now()
  const endMs = startedMs + options.seconds * 1000
  let shown = ackedBefore
  for (let leftMs = endMs - performance.now(); leftMs > 0; leftMs = endMs - performance.now()) {
    const beforeMs = performance.now()
    await sleep(Math.min(1000, leftMs))
    if (!options.json) process.stderr.write(`${Math.round((acked() - shown) * 1000 / (performance.now() - beforeMs))} messages/s\n`)
    shown = acked()
  }
  const seconds = (performance.now() - startedMs) / 1000
  const messages = acked() - ackedBefore
  const cpu = process.cpuUsage(cpuBefore)
  const latency = load.takeLatency()
  const late = behind()
  emit(options, { event: 'measured', messages, seconds })
  const rest = await drained()
  return {
    messages,
    seconds,
    messagesPerSecond: messages / seconds,
    p50Ms: latency.quantileMs(0.5),
    p99Ms: latency.quantileMs(0.99),
    maxMs: latency.maxMs,
    generatorCpuUs: (cpu.user + cpu.system) / Math.max(1, messages),
    behind: late,
    sent: 0,
    acked: 0,
    slowed: 0,
    refused: 0,
    visibility: null,
    ...rest
  }
}

const drainTimeoutMs = 30_000

/** Publishes over MQTT as the options say. Throws when the server refuses or drops a connection. */
export async function runMqttFleet (options: FleetOptions): Promise<FleetResult> {
  const probe = options.probeUrl === undefined
    ? undefined
    : new VisibilityProbe({ httpUrl: options.probeUrl, key: options.key as string, probesPerSecond: options.probesPerSecond, giveUpMs: 30_000, pollMs: 25 })
  const load: MqttLoad = new MqttLoad({
    host: options.host,
    port: options.port,
    connections: options.connections,
    inFlight: options.inFlight,
    ratePerSecond: options.ratePerSecond,
    usernameOf: connection => options.tokens.length > 0 ? options.tokens[connection] : options.key,
    ringOf: ringFactory(options),
    stamped: options.stamped,
    clientIdPrefix: options.clientIdPrefix,
    nowUs: wallClockUs,
    onSampleAcked: probe === undefined
      ? undefined
      : (connection, index, ackedAtMs) => {
          if (probe.wants(ackedAtMs)) probe.probe(deviceOf(options, connection, index), load.ring(connection).stampOf(index), ackedAtMs)
        }
  })
  await load.open()
  try {
    return await measure(options, load, () => load.count().acked, async () => {
      const { sent, acked } = await load.drain(drainTimeoutMs)
      return { sent, acked, visibility: await probe?.finish() ?? null }
    }, () => load.behind)
  } finally {
    load.close()
  }
}

/** Posts over HTTP as the options say. Connection i posts for device `{prefix}{i}` with its token, or with the key. */
export async function runHttpFleet (options: FleetOptions): Promise<FleetResult> {
  const load = new HttpLoad({
    host: options.host,
    port: options.port,
    connections: options.connections,
    readingsPerPost: options.readingsPerPost,
    pathOf: connection => `/api/v1/devices/${options.devicePrefix}${connection}/telemetry`,
    authorizationOf: connection => {
      const secret = options.tokens.length > 0 ? options.tokens[connection] : options.key
      return secret === undefined ? undefined : `Bearer ${secret}`
    },
    metrics: new WalkingMetrics(options.metrics, seededRandom(options.seed)),
    stamped: options.stamped,
    nowUs: wallClockUs
  })
  await load.open()
  try {
    return await measure(options, load, () => load.count().accepted, async () => {
      const { sent, accepted, slowed, refused } = await load.drain(drainTimeoutMs)
      return { sent, acked: accepted, slowed, refused }
    }, () => 0)
  } finally {
    load.close()
  }
}

/** The generator against a sink in a process of its own: its own limit. */
async function runSelfTest (options: FleetOptions): Promise<FleetResult> {
  const sink = spawn(process.execPath, [fileURLToPath(import.meta.url), '--mode', 'sink', '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const port = await new Promise<number>((resolve, reject) => {
      sink.stdout.once('data', (bytes: Buffer) => { resolve((JSON.parse(bytes.toString()) as { port: number }).port) })
      sink.once('exit', () => { reject(new Error('the sink ended')) })
    })
    return await runMqttFleet({ ...options, port })
  } finally {
    sink.kill()
  }
}

function report (options: FleetOptions, result: FleetResult): void {
  if (options.json) {
    emit(options, { event: 'result', ...result })
    return
  }
  const { messagesPerSecond, p50Ms, p99Ms, maxMs, generatorCpuUs, seconds, behind, sent, acked, visibility } = result
  process.stdout.write(`${Math.round(messagesPerSecond)} messages/s over ${seconds.toFixed(1)} s; ack p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, max ${maxMs.toFixed(2)} ms\n`)
  process.stdout.write(`sent ${sent}, acknowledged ${acked}, behind ${behind}; generator ${generatorCpuUs.toFixed(2)} µs CPU per message\n`)
  if (visibility !== null) process.stdout.write(`queryable after p50 ${visibility.p50Ms.toFixed(0)} ms, p99 ${visibility.p99Ms.toFixed(0)} ms, max ${visibility.maxMs.toFixed(0)} ms (${visibility.probes} probes, ${visibility.missing} missing)\n`)
}

async function main (): Promise<void> {
  const options = parseFleetOptions(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(fleetUsage)
    return
  }
  if (options.mode === 'sink') {
    const { port } = await startAckSink(options.port)
    process.stdout.write(`${JSON.stringify({ ready: true, port, pid: process.pid })}\n`)
    return
  }
  if (options.mode === 'idle') {
    await holdIdle(options, count => { emit({ ...options, json: true }, { event: 'connected', connections: count }) })
    return
  }
  const runs = { mqtt: runMqttFleet, http: runHttpFleet, 'self-test': runSelfTest }
  report(options, await runs[options.mode](options))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().then(() => {
    if (!process.argv.includes('sink')) process.exit(0)
  }, (error: unknown) => {
    process.stderr.write(`fleet: ${(error as Error).message}\n`)
    process.exit(1)
  })
}
