#!/usr/bin/env node
/**
 * Replays the solar plant's months through real MQTT clients (mqtt.js), at any speed, as one device or many (see
 * replayUsage). Every device sends the same rows, value for value, so that what a store answers can be compared with the
 * files.
 */
import { fileURLToPath } from 'node:url'
import { connectAsync, type MqttClient } from 'mqtt'
import { parseReplayOptions, replayUsage, type ReplayOptions } from './replay-options.js'
import { bundledMonths, monthFiles, solarMessage, solarReadings, type SolarReading } from './solar-data.js'
import { TwinfoldApi } from './twinfold-api.js'

export interface ReplaySummary {
  readonly sent: number
  readonly acked: number
  readonly points: number
  readonly seconds: number
  readonly messagesPerSecond: number
  readonly pointsPerSecond: number
  /** Added to the times in the files. */
  readonly shiftMs: number
}

/** Metrics of a row, for points per second. */
const pointsPerReading = 24

/** Waits below this are not worth a timer. */
const paceSlackMs = 2

interface Progress { sent: number, acked: number }

/** Sends all readings as one device, at most `inFlight` unacknowledged. */
async function replayDevice (client: MqttClient, readings: Iterable<SolarReading>, options: ReplayOptions, shiftMs: number, progress: Progress): Promise<void> {
  const startedMs = performance.now()
  let firstTsMs: number | undefined
  let outstanding = 0
  let failure: Error | undefined
  let wake: (() => void) | undefined
  const acknowledged = (error?: Error | null): void => {
    outstanding--
    if (error instanceof Error) failure ??= error
    else progress.acked++
    wake?.()
  }
  const roomFor = async (limit: number): Promise<void> => {
    while (outstanding > limit && failure === undefined) await new Promise<void>(resolve => { wake = resolve })
    if (failure !== undefined) throw failure
  }
  for (const reading of readings) {
    firstTsMs ??= reading.tsMs
    if (options.speed !== Infinity) {
      const waitMs = startedMs + (reading.tsMs - firstTsMs) / options.speed - performance.now()
      if (waitMs > paceSlackMs) await new Promise(resolve => { setTimeout(resolve, waitMs) })
    }
    if (outstanding >= options.inFlight) await roomFor(options.inFlight - 1)
    outstanding++
    progress.sent++
    client.publish('telemetry', solarMessage(reading, shiftMs), { qos: options.qos }, acknowledged)
  }
  await roomFor(0)
}

function showProgress (progress: Progress): NodeJS.Timeout {
  let before = 0
  let beforeMs = performance.now()
  return setInterval(() => {
    const nowMs = performance.now()
    const rate = (progress.acked - before) * 1000 / (nowMs - beforeMs)
    before = progress.acked
    beforeMs = nowMs
    process.stderr.write(`\r${progress.acked} acknowledged, ${progress.sent - progress.acked} in flight, ${Math.round(rate)} messages/s    `)
  }, 1000)
}

/** Replays as the options say. Throws when a device cannot be created, or a client is refused. */
export async function replaySolar (options: ReplayOptions): Promise<ReplaySummary> {
  const files = options.data === undefined ? bundledMonths().filter(file => options.months.length === 0 || options.months.some(month => file.includes(month))) : monthFiles(options.data, options.months)
  // Read once and shared by the devices: reading per device would be most of the work.
  const readings = [...solarReadings(files)]
  const ids = Array.from({ length: options.devices }, (_, k) => `${options.devicePrefix}${k}`)
  const tokens = options.key === undefined ? options.tokens : await new TwinfoldApi(options.http, options.key).createDevices(ids)
  const shiftMs = options.shift ? Date.now() - readings[readings.length - 1].tsMs - options.staggerMs * (options.devices - 1) : 0
  const clients = await Promise.all(ids.map(async (id, k) => await connectAsync(options.server, { clientId: `replay-${id}`, username: tokens[k], protocolVersion: 4, reconnectPeriod: 1000 }, false)))
  const progress: Progress = { sent: 0, acked: 0 }
  const shown = options.quiet ? undefined : showProgress(progress)
  const startedMs = performance.now()
  try {
    await Promise.all(clients.map(async (client, k) => { await replayDevice(client, readings, options, shiftMs + k * options.staggerMs, progress) }))
  } finally {
    clearInterval(shown)
    await Promise.all(clients.map(async client => { await client.endAsync() }))
  }
  const seconds = (performance.now() - startedMs) / 1000
  const { sent, acked } = progress
  const points = acked * pointsPerReading
  return { sent, acked, points, seconds, messagesPerSecond: acked / seconds, pointsPerSecond: points / seconds, shiftMs }
}

async function main (): Promise<void> {
  const options = parseReplayOptions(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(replayUsage)
    return
  }
  const { sent, acked, seconds, messagesPerSecond, pointsPerSecond } = await replaySolar(options)
  process.stdout.write(`${options.quiet ? '' : '\n'}sent ${sent}, acknowledged ${acked} in ${seconds.toFixed(1)} s: ${Math.round(messagesPerSecond)} messages/s, ${Math.round(pointsPerSecond)} points/s\n`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error: unknown) => {
    process.stderr.write(`solar-replay: ${(error as Error).message}\n`)
    process.exit(1)
  })
}
