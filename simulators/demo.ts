/**
 * The demo: a tenant, five plants, a day of history and live readings, all through the public interfaces (HTTP API, real
 * MQTT clients), so that the demo shows nothing that a user could not do. The readings are a real thermal solar plant's
 * (solar-plant/LICENSE.md); their times are moved so that the data ends now, and each plant is a little further in the month.
 */
import { connectAsync, type MqttClient } from 'mqtt'
import { behaveAsTwin } from './demo-twin.js'
import { bundledMonths, solarReadings, type SolarReading } from './solar-data.js'

export interface DemoOptions {
  readonly httpUrl: string
  readonly mqttUrl: string
  readonly adminKey: string
  readonly write: (text: string) => void
  /** The output is a terminal: progress may be drawn over itself. */
  readonly interactive: boolean
}

export interface Demo {
  close(): Promise<void>
}

interface Issued { readonly id: string, readonly secret: string }

const tenant = 'demo'
const plants = 5
const historyReadings = 1440
const livePeriodMs = 1000

interface Plant { readonly id: string, readonly token: string, readonly client: MqttClient, next: number }

export async function startDemo (options: DemoOptions): Promise<Demo> {
  const { httpUrl, write } = options
  const api = apiClient(httpUrl)
  await api('POST', '/tenants', options.adminKey, { id: tenant, name: 'Demo' }, [201, 409])
  const key = await api('POST', '/keys', options.adminKey, { role: 'operator', label: 'demo' }, [201]) as Issued
  const readings = [...solarReadings(bundledMonths())]
  const connected: Plant[] = []
  for (let i = 1; i <= plants; i++) {
    const id = `plant-${i}`
    await api('POST', '/devices', key.secret, { id, name: `Solar plant ${i}`, type: 'solar-plant' }, [201, 409])
    const { secret: token } = await api('POST', `/devices/${id}/tokens`, key.secret, { label: 'demo' }, [201]) as Issued
    const client = await connectAsync(options.mqttUrl, { username: token, clientId: `demo-${id}`, protocolVersion: 4, reconnectPeriod: 1000 })
    await behaveAsTwin(client, id)
    connected.push({ id, token, client, next: (i - 1) * 4000 })
  }
  write(`\nTwinfold demo: ${plants} plants of tenant '${tenant}' send real readings.\n`)
  await sendHistory(connected, readings, options)
  printExamples(options, connected[0], key.secret)
  const timer = setInterval(() => {
    for (const plant of connected) {
      const reading = take(plant, readings)
      plant.client.publish('telemetry', `{"ts":${Date.now()},"values":${reading.valuesJson}}`, { qos: 1 }, () => {})
    }
  }, livePeriodMs)
  return {
    close: async () => {
      clearInterval(timer)
      await Promise.all(connected.map(async plant => { await plant.client.endAsync(true) }))
    }
  }
}

function take (plant: Plant, readings: readonly SolarReading[]): SolarReading {
  return readings[plant.next++ % readings.length]
}

/** A day of minutes up to now, acknowledged before the demo says so. */
async function sendHistory (connected: readonly Plant[], readings: readonly SolarReading[], options: DemoOptions): Promise<void> {
  const { write } = options
  const start = Date.now()
  const firstMs = start - historyReadings * 60_000
  let sent = 0
  const total = connected.length * historyReadings
  await Promise.all(connected.map(async plant => {
    for (let at = 0; at < historyReadings; at += 100) {
      const batch: string[] = []
      for (let i = at; i < Math.min(historyReadings, at + 100); i++) batch.push(`{"ts":${firstMs + i * 60_000},"values":${take(plant, readings).valuesJson}}`)
      await plant.client.publishAsync('telemetry', `[${batch.join(',')}]`, { qos: 1 })
      sent += batch.length
      if (options.interactive) write(`\r  history: ${sent} of ${total} readings acknowledged`)
    }
  }))
  write(`${options.interactive ? '\r' : ''}  history: ${total} readings acknowledged in ${Date.now() - start} ms\n  live:    one reading a second from each plant (Ctrl-C ends it)\n`)
}

function printExamples ({ httpUrl, mqttUrl, write }: DemoOptions, plant: Plant, key: string): void {
  const { port, hostname } = new URL(mqttUrl)
  const host = hostname === '127.0.0.1' || hostname === 'localhost' ? '' : `-h ${hostname} `
  write(`
  MQTT ${mqttUrl}   HTTP ${httpUrl}   API description ${httpUrl}/docs

Publish a reading as ${plant.id}:

  mosquitto_pub ${host}-p ${port} -u ${plant.token} -t telemetry -q 1 -m '{"temperature":21.3}'

Ask for its newest values, and for the last ten minutes:

  curl -s -H 'Authorization: Bearer ${key}' ${httpUrl}/api/v1/devices/${plant.id}/telemetry/latest
  curl -s -H 'Authorization: Bearer ${key}' '${httpUrl}/api/v1/devices/${plant.id}/telemetry?from=now-10m&metrics=collector_temp_1,tank_temp_2'

Say what it is to be (the plant does so a second later), and look at its twin:

  curl -s -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -X PATCH ${httpUrl}/api/v1/devices/${plant.id}/twin -d '{"desired":{"pump":{"speed":80}}}'
  curl -s -H 'Authorization: Bearer ${key}' ${httpUrl}/api/v1/devices/${plant.id}/twin

Send it a command and wait for its answer; find plants by what they say:

  curl -s -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' '${httpUrl}/api/v1/devices/${plant.id}/commands?wait=5000' -d '{"name":"self-test"}'
  curl -sG -H 'Authorization: Bearer ${key}' ${httpUrl}/api/v1/devices --data-urlencode 'filter=reported.pump.speed gt 70 and latest.tank_temp_2 gt 20'

`)
}

/** JSON calls on the API; an answer with an unexpected status is an error that shows what the server said. */
function apiClient (httpUrl: string): (method: string, path: string, key: string, body: object, expected: readonly number[]) => Promise<unknown> {
  return async (method, path, key, body, expected) => {
    const response = await fetch(`${httpUrl}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'x-tenant': tenant },
      body: JSON.stringify(body)
    })
    const text = await response.text()
    if (!expected.includes(response.status)) throw new Error(`${method} ${path} was answered with ${response.status}: ${text}`)
    return text === '' ? null : JSON.parse(text)
  }
}
