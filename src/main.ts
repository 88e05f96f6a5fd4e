#!/usr/bin/env node
/** Entry: environment and arguments into configuration, signals into a clean stop. The only file that reads the environment. */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { startDemo, type Demo } from '../simulators/demo.js'
import { adopt } from './adopt-command.js'
import { startApp, type App } from './app.js'
import { compactStore } from './compact.js'
import { readConfig, settings, type Config } from './config.js'
import { systemClock } from './core/clock.js'
import { migrate } from './migrate.js'
import { rebuildAnalytics } from './rebuild-command.js'
import { rebuildTwinsCommand } from './rebuild-twins-command.js'
import { verifyCommand, type VerifyArguments } from './verify-command.js'

const usage = `twinfold: IoT telemetry ingestion and digital twins

  twinfold                       start the server
  twinfold migrate               bring the databases of the cluster profile to this version's schema (servers may run)
  twinfold journal adopt DIR     pack what a dead node's journal directory still holds into the cluster's store
  twinfold rebuild analytics [--tenant ID]
                                 bring everything into analytics anew from the store (embedded: while the server is not running)
  twinfold rebuild twins [--tenant ID] [--check]
                                 make twins anew from their history and rewrite those that differ (embedded: while the server is not running)

  twinfold verify                recompute the tiers of sealed buckets from raw and report every difference; exit code 1 where there is one
      [--tenant T [--device D]] [--from TIME] [--to TIME] [--json]      (embedded store: the server must not be running)

  --demo      create a demo tenant and let a small simulated fleet publish real sensor data
  --help      this text
  --compact   merge and compact the embedded store, then end (the server must not be running)
  --settings  list all settings (environment variables)
`

type Command = { readonly kind: 'verify', readonly given: VerifyArguments } | { readonly kind: 'serve', readonly demo: boolean } | { readonly kind: 'compact' | 'migrate' | 'help' | 'settings' } | { readonly kind: 'adopt', readonly directory: string } | { readonly kind: 'rebuild', readonly tenant: string | null } | { readonly kind: 'rebuild twins', readonly tenant: string | null, readonly check: boolean }

function misused (message: string): never {
  process.stderr.write(`twinfold: ${message}\n\n${usage}`)
  process.exit(2)
}

const verifyOptions = { tenant: { type: 'string' }, device: { type: 'string' }, from: { type: 'string' }, to: { type: 'string' }, json: { type: 'boolean' } } as const

function parseCommand (): Command {
  let given
  try {
    given = parseArgs({ allowPositionals: true, options: { demo: { type: 'boolean' }, compact: { type: 'boolean' }, help: { type: 'boolean' }, settings: { type: 'boolean' }, check: { type: 'boolean' }, ...verifyOptions } })
  } catch (error) {
    misused((error as Error).message)
  }
  const { values, positionals: [first, ...rest] } = given
  if (first === 'verify' && rest.length === 0 && values.help !== true) return { kind: 'verify', given: values }
  if (first === 'rebuild' && rest.length === 1 && values.help !== true) {
    const { tenant = null, check = false, device, from, to, json } = values
    if ([device, from, to, json].some(value => value !== undefined)) misused(`'rebuild' takes --tenant`)
    if (rest[0] === 'twins') return { kind: 'rebuild twins', tenant, check }
    if (rest[0] === 'analytics' && !check) return { kind: 'rebuild', tenant }
  }
  if (values.check === true) misused(`--check belongs to 'rebuild twins'`)
  const misplaced = Object.keys(verifyOptions).find(name => name in values)
  if (misplaced !== undefined) misused(`--${misplaced} belongs to 'verify'`)
  if (values.help === true) return { kind: 'help' }
  if (values.settings === true) return { kind: 'settings' }
  if (values.compact === true) return { kind: 'compact' }
  if (first === undefined) return { kind: 'serve', demo: values.demo === true }
  if (first === 'migrate' && rest.length === 0) return { kind: 'migrate' }
  if (first === 'journal' && rest[0] === 'adopt' && rest.length === 2) return { kind: 'adopt', directory: rest[1] }
  misused(`there is no command '${[first, ...rest].join(' ')}'`)
}

/** Runs a command that ends by itself; its lines go to standard output. */
async function runToEnd (work: () => Promise<readonly string[]>): Promise<never> {
  try {
    for (const line of await work()) process.stdout.write(`${line}\n`)
    process.exit(0)
  } catch (error) {
    process.stderr.write(`twinfold: ${(error as Error).message}\n`)
    process.exit(1)
  }
}

const command = parseCommand()
if (command.kind === 'help') {
  process.stdout.write(usage)
  process.exit(0)
}
if (command.kind === 'settings') {
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
const tools = { clock: systemClock, log }
if (command.kind === 'compact') {
  await runToEnd(async () => {
    const { slabs, bytesBefore, bytesAfter } = await compactStore(config, tools)
    return [`${slabs} slabs merged, ${bytesBefore} bytes before, ${bytesAfter} bytes after`]
  })
}
if (command.kind === 'migrate') await runToEnd(async () => await migrate(config, tools))
if (command.kind === 'verify') {
  try {
    const output = { line: (text: string) => { process.stdout.write(`${text}\n`) }, progress: (text: string) => { process.stderr.write(`${text}\n`) } }
    process.exit(await verifyCommand(config, command.given, output, tools))
  } catch (error) {
    process.stderr.write(`twinfold: ${(error as Error).message}\n`)
    process.exit(2)
  }
}
if (command.kind === 'rebuild') await runToEnd(async () => await rebuildAnalytics(config, command.tenant, { ...tools, tell: text => process.stderr.write(text) }))
if (command.kind === 'rebuild twins') await runToEnd(async () => await rebuildTwinsCommand(config, command, { ...tools, tell: text => process.stderr.write(text) }))
if (command.kind === 'adopt') await runToEnd(async () => await adopt(config, command.directory, tools))

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
if (command.kind === 'serve' && command.demo) {
  demo = await startDemo({ httpUrl: app.httpUrl, mqttUrl: app.mqttUrl, adminKey: await app.makeAdminKey('demo'), write: text => process.stdout.write(text), interactive: process.stdout.isTTY })
} else if (config.readyJson === '0') {
  process.stdout.write(`MQTT ${app.mqttUrl}   HTTP ${app.httpUrl}   API description ${app.httpUrl}/docs\n`)
}
