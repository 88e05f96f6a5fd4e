/**
 * Sections `embedded` and `cluster` of the twin bench: reported updates over MQTT, desired updates over HTTP until the delta is at the
 * device, commands until the answer is back at the operator. Every change is counted by the twins' versions afterwards.
 */
import { Agent, request } from 'node:http'
import { connectAsync, type MqttClient } from 'mqtt'
import type { BenchContext, Row } from './bench-context.js'
import { paced } from './paced.js'
import { cpuMs } from './process-meter.js'
import { openQueryWorld, quantilesOf, type Profile, type QueryWorld } from './query-world.js'

export interface TwinScale {
  readonly devices: number
  readonly ratePerSecond: number
}

interface Scale extends TwinScale { readonly reportedPerSecond: number }

const connectsAtOnce = 20
const requestsAtOnce = 64
/** Reported updates of one device that may wait for their PUBACK, at full speed. */
const windowPerDevice = 20

/** When the deltas of a device came. One may stand for several changes, and may be there before the operator's answer. */
class Deltas {
  readonly #seen: { readonly version: number, readonly atMs: number }[] = []
  #look: (() => void)[] = []

  note (version: number): void {
    this.#seen.push({ version, atMs: performance.now() })
    if (this.#seen.length > 100) this.#seen.shift()
    const look = this.#look
    this.#look = []
    for (const wake of look) wake()
  }

  /** When the first delta of that version or a later one came. @throws Error after ten seconds */
  async reached (version: number): Promise<number> {
    const untilMs = performance.now() + 10_000
    for (;;) {
      const found = this.#seen.find(delta => delta.version >= version)
      if (found !== undefined) return found.atMs
      const leftMs = untilMs - performance.now()
      if (leftMs <= 0) throw new Error(`no delta of version ${version} within ten seconds`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, leftMs)
        this.#look.push(() => { clearTimeout(timer); resolve() })
      })
    }
  }
}

interface Device {
  readonly id: string
  readonly client: MqttClient
  readonly deltas: Deltas
}

class Operator {
  readonly #world: QueryWorld
  readonly #agent = new Agent({ keepAlive: true, maxSockets: requestsAtOnce })

  constructor (world: QueryWorld) { this.#world = world }

  async ask (method: string, path: string, body: object): Promise<Record<string, unknown>> {
    return await new Promise((resolve, reject) => {
      const text = JSON.stringify(body)
      const asked = request(`${this.#world.server.httpUrl}/api/v1${path}`, {
        method, agent: this.#agent, headers: { authorization: `Bearer ${this.#world.key}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
      }, response => {
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => { parts.push(part) })
        response.on('end', () => {
          const answer = Buffer.concat(parts).toString()
          const status = response.statusCode ?? 0
          if (status >= 200 && status < 300) resolve(JSON.parse(answer) as Record<string, unknown>)
          else reject(new Error(`${method} ${path} was answered with ${status}: ${answer.slice(0, 500)}`))
        })
      })
      asked.on('error', reject)
      asked.end(text)
    })
  }

  close (): void { this.#agent.destroy() }
}

async function connectDevices (world: QueryWorld, ids: readonly string[]): Promise<Device[]> {
  const devices: Device[] = []
  let at = 0
  const connectNext = async (): Promise<void> => {
    for (let i = at++; i < ids.length; i = at++) devices[i] = await connectDevice(world, ids[i])
  }
  await Promise.all(Array.from({ length: connectsAtOnce }, connectNext))
  return devices
}

async function connectDevice (world: QueryWorld, id: string): Promise<Device> {
  const client = await connectAsync(`mqtt://127.0.0.1:${world.server.mqttPort}`, { clientId: id, username: await world.api.createDevice(id), clean: true, reconnectPeriod: 0 })
  const device: Device = { id, client, deltas: new Deltas() }
  client.on('message', (topic, payload) => {
    const command = /\/commands\/([^/]+)\/request\/([^/]+)$/.exec(topic)
    if (command !== null) client.publish(`devices/${id}/commands/${command[1]}/response/${command[2]}`, '{"status":"succeeded","payload":{"done":true}}', { qos: 1 })
    else if (topic.endsWith('/twin/delta')) device.deltas.note((JSON.parse(payload.toString()) as { desiredVersion: number }).desiredVersion)
  })
  await client.subscribeAsync([`devices/${id}/twin/delta`, `devices/${id}/commands/+/request/+`], { qos: 1 })
  return device
}

async function versionsOf (operator: Operator, devices: readonly Device[]): Promise<number> {
  let sum = 0
  for (let from = 0; from < devices.length; from += 1000) {
    const { twins } = await operator.ask('POST', '/twins/get', { devices: devices.slice(from, from + 1000).map(({ id }) => id) }) as { twins: readonly { readonly version: number }[] }
    for (const { version } of twins) sum += version
  }
  return sum
}

function report (device: Device, i: number): Promise<unknown> {
  return device.client.publishAsync(`devices/${device.id}/twin/reported`, `{"counter":${i},"battery":${(50 + i % 50)},"position":{"lat":${52 + i % 1000 / 1e4},"lon":13.4}}`, { qos: 1 })
}

/** Waits until the twins have taken so many steps. @throws Error after two minutes */
async function applied (operator: Operator, devices: readonly Device[], before: number, steps: number): Promise<number> {
  const startedMs = performance.now()
  while (await versionsOf(operator, devices) < before + steps) {
    if (performance.now() - startedMs > 120_000) throw new Error(`${await versionsOf(operator, devices) - before} of ${steps} reported updates are applied after two minutes`)
    await new Promise(resolve => { setTimeout(resolve, 200) })
  }
  const found = await versionsOf(operator, devices)
  if (found !== before + steps) throw new Error(`${found - before} versions for ${steps} reported updates`)
  return (performance.now() - startedMs) / 1000
}

async function reportedPaced (operator: Operator, world: QueryWorld, devices: readonly Device[], rate: number, seconds: number): Promise<Row['figures']> {
  const latencies: number[] = []
  const before = await versionsOf(operator, devices)
  const cpuBefore = cpuMs(world.server.pid)
  const { started } = await paced(rate, seconds, async i => {
    const startedMs = performance.now()
    await report(devices[i % devices.length], i)
    latencies.push(performance.now() - startedMs)
  })
  const cpu = cpuMs(world.server.pid) - cpuBefore
  const drainSeconds = await applied(operator, devices, before, started)
  const { p50Ms, p99Ms } = quantilesOf(latencies)
  return { 'offered/s': rate, applied: started, 'PUBACK p50 ms': p50Ms, 'PUBACK p99 ms': p99Ms, 'applied after the last ack, s': drainSeconds, 'server CPU µs/update': cpu * 1000 / started }
}

async function reportedFull (operator: Operator, devices: readonly Device[], seconds: number): Promise<Row['figures']> {
  const before = await versionsOf(operator, devices)
  const startedMs = performance.now()
  let sent = 0
  const sender = async (device: Device): Promise<void> => {
    while (performance.now() - startedMs < seconds * 1000) await report(device, sent++)
  }
  await Promise.all(devices.flatMap(device => Array.from({ length: Math.max(1, Math.round(windowPerDevice / 10)) }, async () => { await sender(device) })))
  await applied(operator, devices, before, sent)
  return { applied: sent, 'applied/s': sent / ((performance.now() - startedMs) / 1000) }
}

async function desired (operator: Operator, devices: readonly Device[], rate: number, seconds: number): Promise<Row['figures']> {
  const answers: number[] = []
  const arrivals: number[] = []
  const { started } = await paced(rate, seconds, async i => {
    const device = devices[i % devices.length]
    const startedMs = performance.now()
    const { desiredVersion } = await operator.ask('PATCH', `/devices/${device.id}/twin`, { desired: { setpoint: i, mode: i % 2 === 0 ? 'auto' : 'manual' } }) as { desiredVersion: number }
    answers.push(performance.now() - startedMs)
    arrivals.push(await device.deltas.reached(desiredVersion) - startedMs)
  })
  const http = quantilesOf(answers)
  const end = quantilesOf(arrivals)
  return { changes: started, 'HTTP p50 ms': http.p50Ms, 'HTTP p99 ms': http.p99Ms, 'delta at the device p50 ms': end.p50Ms, 'p99 ms': end.p99Ms }
}

async function commands (operator: Operator, devices: readonly Device[], rate: number, seconds: number): Promise<Row['figures']> {
  const trips: number[] = []
  const { started } = await paced(rate, seconds, async i => {
    const device = devices[i % devices.length]
    const startedMs = performance.now()
    const { state } = await operator.ask('POST', `/devices/${device.id}/commands?wait=10000`, { name: 'blink', payload: { times: i % 5 } }) as { state: string }
    if (state !== 'succeeded') throw new Error(`a command of ${device.id} ended as ${state}`)
    trips.push(performance.now() - startedMs)
  })
  const { p50Ms, p99Ms } = quantilesOf(trips)
  return { commands: started, 'round trip p50 ms': p50Ms, 'p99 ms': p99Ms }
}

export async function twinSection (context: BenchContext, profile: Profile, scale: Scale): Promise<Row[]> {
  const ids = Array.from({ length: scale.devices }, (_, i) => `unit-${i}`)
  const world = await openQueryWorld({ profile, root: context.root, devices: ids, load: async () => {} })
  const operator = new Operator(world)
  const rows: Row[] = []
  const add = (what: string, figures: Row['figures']): void => {
    rows.push({ section: profile, what, figures })
    context.log(`${what}: ${JSON.stringify(figures)}`)
  }
  let devices: Device[] = []
  try {
    devices = await connectDevices(world, ids)
    const seconds = context.quick ? 3 : 20
    await reportedPaced(operator, world, devices, scale.reportedPerSecond / 4, context.warmUpSeconds)
    add(`reported updates over MQTT at ${scale.reportedPerSecond}/s, ${ids.length} devices`, await reportedPaced(operator, world, devices, scale.reportedPerSecond, seconds))
    add('reported updates over MQTT, as many as it takes', await reportedFull(operator, devices, seconds / 2))
    await desired(operator, devices, scale.ratePerSecond / 2, context.warmUpSeconds)
    add(`desired over HTTP to delta at the device, ${scale.ratePerSecond}/s`, await desired(operator, devices, scale.ratePerSecond, seconds))
    await commands(operator, devices, scale.ratePerSecond / 2, context.warmUpSeconds)
    add(`command over HTTP, answered by the device, ${scale.ratePerSecond}/s`, await commands(operator, devices, scale.ratePerSecond, seconds))
    return rows
  } finally {
    for (const { client } of devices) client.end(true)
    operator.close()
    await world.close()
  }
}
