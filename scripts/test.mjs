/**
 * Runs the built tests with tap and ends with `N passed, N failed, N skipped` alone on a line (assertions; a file that could
 * not run counts as one failure).
 *
 * Without arguments: lint, because a rule that is only checked now and then is no rule, and every test under dist/test except
 * the drills, on real Cassandra, Redis and ClickHouse, which are brought up first; what was started here is stopped at the
 * end, whatever the end is. Suites that start services of their own (`*.services.test.ts`) come last, one at a time. A suite
 * whose service cannot be had is named and counted as skipped; with CI=true in the environment that is a failure.
 *
 * With files as arguments: those alone, on the services that run.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { down, up } from './service-control/control.mjs'
import { readSettings, stateFile } from './service-control/settings.mjs'
import { TestReport } from './test-report.mjs'

const require = createRequire(import.meta.url)
const filesGiven = process.argv.slice(2)
const wholeSuite = filesGiven.length === 0
const servicesRequired = process.env.CI === 'true'
const write = text => { process.stdout.write(text) }
const isHeavy = file => file.endsWith('.services.test.js')
const light = { jobs: 2, timeoutSeconds: 300 }
const heavy = { jobs: 1, timeoutSeconds: 600 }

const settings = readSettings(process.env)
const report = new TestReport()
const running = new Set()
let startedServices = []
let stopping = false

function testFiles () {
  const list = readdirSync('dist/test', { recursive: true, encoding: 'utf8' }).map(name => join('dist/test', name))
  // What an earlier build left behind of a test that is gone does not count.
  return list.filter(file => file.endsWith('.test.js') && !file.includes('/drills/') && existsSync(file.replace('dist/', '').replace(/\.js$/, '.ts'))).sort()
}

/** Runs a Node program to its end; resolves to whether it ended with 0. */
function runNode (args, { stdout, environment }) {
  return new Promise(resolve => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', stdout === 'inherit' ? 'inherit' : 'pipe', 'inherit'], env: environment })
    running.add(child)
    if (stdout !== 'inherit') report.follow(child.stdout, stdout)
    child.on('error', () => { resolve(false) })
    child.on('close', code => {
      running.delete(child)
      resolve(code === 0)
    })
  })
}

async function lint () {
  const clean = await runNode([require.resolve('eslint/package.json').replace('package.json', 'bin/eslint.js'), '.'], { stdout: 'inherit', environment: process.env })
  write(clean ? 'lint: clean\n' : 'lint: failed\n')
  return clean
}

/** The server refuses settings that it does not know, and those of the services are not its own. */
function testEnvironment () {
  const environment = { ...process.env, UV_THREADPOOL_SIZE: '16' }
  for (const name of Object.keys(environment)) if (name.startsWith('TWINFOLD_SERVICES_')) delete environment[name]
  return environment
}

async function runTests (files, { jobs, timeoutSeconds }) {
  if (files.length === 0 || stopping) return true
  const tap = require.resolve('tap/package.json').replace('package.json', 'dist/esm/run.mjs')
  if (!existsSync(tap)) throw new Error(`tap's runner is not where it was: ${tap}`)
  return await runNode([tap, 'run', '--disable-coverage', '--allow-empty-coverage', `--jobs=${jobs}`, `--timeout=${timeoutSeconds}`, '--reporter=tap', ...files], { stdout: write, environment: testEnvironment() })
}

async function bringUpServices () {
  const { started } = await up(settings, line => { write(`services: ${line}\n`) })
  startedServices = started
}

async function takeDownServices () {
  const names = startedServices
  startedServices = []
  if (names.length > 0) await down(settings, line => { write(`services: ${line}\n`) }, names)
}

/** Names the suites that did not run; returns how many failures that makes. */
function nameWhatDidNotRun () {
  if (report.withoutService.size === 0) return 0
  write('\nNOT RUN, or not all of it, for want of a service:\n')
  for (const [file, reasons] of report.withoutService) write(`  ${file}\n${reasons.map(reason => `      ${reason}\n`).join('')}`)
  write(servicesRequired ? 'CI=true: that is a failure\n\n' : 'counted as skipped\n\n')
  return servicesRequired ? report.withoutService.size : 0
}

async function main () {
  let clean = true
  if (wholeSuite) {
    const [lintClean] = await Promise.all([lint(), bringUpServices()])
    clean = lintClean
  } else if (!existsSync(stateFile)) {
    write('services: none are up, and none are started for single files; scripts/services up does\n')
  }
  const files = wholeSuite ? testFiles() : filesGiven
  const ended = [await runTests(files.filter(file => !isHeavy(file)), light), await runTests(files.filter(isHeavy), heavy)]
  if (ended.includes(false) && report.failed === 0) report.failed = 1
  if (!clean) report.failed++
}

async function interrupted (signal) {
  if (stopping) process.exit(1)
  stopping = true
  write(`\n${signal}: stopping\n`)
  for (const child of running) child.kill('SIGTERM')
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => { void interrupted(signal) })

try {
  await main()
} catch (error) {
  write(`${error.stack}\n`)
  report.failed++
}
try {
  await takeDownServices()
} catch (error) {
  write(`services: ${error.message}\n`)
  report.failed++
}
report.failed += nameWhatDidNotRun()
if (stopping && report.failed === 0) report.failed = 1
write(`${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped\n`)
process.exit(report.failed === 0 ? 0 : 1)
