#!/usr/bin/env node
/** Entry: environment and arguments into configuration, signals into a clean stop. The only file that reads the environment. */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { startDemo, type Demo } from '../simulators/demo.js'
import { startApp, type App } from './app.js'
import { compactStore } from './compact.js'
import { readConfig, settings, type Config } from './config.js'
import { systemClock } from './core/clock.js'

const usage = `twinfold: IoT telemetry ingestion and digital twins

  --demo      create a demo tenant and let a small simulated fleet publish real sensor data
  --help      this text
  --compact   merge and compact the stored data, then end (the server must not be running)
  --settings  list all settings (environment variables)
`

interface Arguments { readonly demo: boolean, readonly compact: boolean, readonly help: boolean, readonly settings: boolean }

function parseArguments (): Arguments {
  try {
    const { values } = parseArgs({ options: { demo: { type: 'boolean' }, compact: { type: 'boolean' }, help: { type: 'boolean' }, settings: { type: 'boolean' } } })
    return { demo: values.demo === true, compact: values.compact === true, help: values.help === true, settings: values.settings === true }
  } catch (error) {
    process.stderr.write(`twinfold: ${(error as Error).message}\n\n${usage}`)
    process.exit(2)
  }
}

const argumentsGiven = parseArguments()
if (argumentsGiven.help) {
  process.stdout.write(usage)
  process.exit(0)
}
if (argumentsGiven.settings) {
  for (const { variable, meaning, fallback } of Object.values(settings)) process.stdout.write(`${variable}=${fallback}\n    ${meaning}\n`)
  process.exit(0)
}

let config: Config
try {
  config = readConfig(process.env)
} catch (error) {
  process.stderr.write(`twinfold: ${(error as Error).message}\n`)
  process.exit(2)
}

const log = pino({ level: config.logLevel, base: undefined, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }))
if (argumentsGiven.compact) {
  try {
    const { slabs, bytesBefore, bytesAfter } = await compactStore(config, { clock: systemClock, log })
    process.stdout.write(`${slabs} slabs merged, ${bytesBefore} bytes before, ${bytesAfter} bytes after\n`)
    process.exit(0)
  } catch (error) {
    process.stderr.write(`twinfold: ${(error as Error).message}\n`)
    process.exit(1)
  }
}

let app: App | undefined
let demo: Demo | undefined
let stopping = false

async function stop (reason: string, exitCode: number): Promise<void> {
  if (stopping) return
  stopping = true
  log.info({ reason }, 'stopping')
  // A stop that hangs must still end: what was acknowledged is in the journal whatever happens here.
  setTimeout(() => { process.exit(exitCode === 0 ? 3 : exitCode) }, 20_000).unref()
  try {
    await demo?.close()
    await app?.close()
  } catch (error) {
    log.error({ error: (error as Error).stack }, 'the stop was not clean')
    process.exit(1)
  }
  process.exit(exitCode)
}

process.on('SIGTERM', () => { void stop('SIGTERM', 0) })
process.on('SIGINT', () => { void stop('SIGINT', 0) })
process.on('uncaughtException', error => {
  // A fault nobody expected: the picture in memory may be wrong, the journal is right. Stop and let the restart recover.
  log.error({ error: error.stack }, 'uncaught fault')
  void stop('uncaught fault', 1)
})

try {
  app = await startApp(config, { clock: systemClock, log })
} catch (error) {
  process.stderr.write(`twinfold: ${(error as Error).message}\n`)
  if (config.logLevel === 'debug') process.stderr.write(`${String((error as Error).stack)}\n`)
  process.exit(1)
}

if (config.readyJson === '1') {
  process.stdout.write(`${JSON.stringify({ ready: true, mqttPort: app.mqttPort, httpPort: app.httpPort, pid: process.pid })}\n`)
}
if (app.newAdminKey !== null) {
  process.stdout.write(`\nPlatform admin key, shown this once:\n\n    ${app.newAdminKey}\n\n`)
}
if (argumentsGiven.demo) {
  demo = await startDemo({ httpUrl: app.httpUrl, mqttUrl: app.mqttUrl, adminKey: await app.makeAdminKey('demo'), write: text => process.stdout.write(text), interactive: process.stdout.isTTY })
} else if (config.readyJson === '0') {
  process.stdout.write(`MQTT ${app.mqttUrl}   HTTP ${app.httpUrl}   API description ${app.httpUrl}/docs\n`)
}
