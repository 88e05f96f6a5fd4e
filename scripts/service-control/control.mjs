/**
 * `up`, `down` and `status` as functions; scripts/test.mjs uses them as well. What runs, and whose it is, stands in
 * `.services/state.json`. `up` may be called again and again: it keeps what answers, and starts what does not. `down` ends
 * what `up` started and nothing else. One call at a time per working copy (a lock file; a dead holder's lock is taken over).
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { cassandraDataCenter } from './probes.mjs'
import { lives } from './processes.mjs'
import { addressOf, isSameProcess, mayUseDocker, probe, serviceNames, startService, stopService } from './starters.mjs'
import { servicesDirectory, stateFile } from './settings.mjs'

const lockFile = join(servicesDirectory, 'lock')
const lockTimeoutMs = 600_000

export function readState () {
  if (!existsSync(stateFile)) return { cassandra: null, redis: null, clickHouse: null, missing: {} }
  return { missing: {}, ...JSON.parse(readFileSync(stateFile, 'utf8')) }
}

function writeState (state) {
  writeFileSync(`${stateFile}.new`, `${JSON.stringify(state, null, 2)}\n`)
  renameSync(`${stateFile}.new`, stateFile)
}

async function locked (work) {
  mkdirSync(servicesDirectory, { recursive: true })
  const deadline = performance.now() + lockTimeoutMs
  for (;;) {
    try {
      const file = openSync(lockFile, 'wx')
      writeFileSync(file, String(process.pid))
      closeSync(file)
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
      let holder = NaN
      try { holder = Number(readFileSync(lockFile, 'utf8')) } catch { continue }
      if (holder > 0 && !lives(holder)) rmSync(lockFile, { force: true })
      else if (performance.now() > deadline) throw new Error(`another up or down (process ${holder}) holds ${lockFile}`)
      else await delay(200)
    }
  }
  try {
    return await work()
  } finally {
    rmSync(lockFile, { force: true })
  }
}

/** What is known of one service once it answers. */
async function describe (name, entry) {
  const described = { ...addressOf(name, entry), ...entry }
  if (name === 'cassandra') described.dataCenter = await cassandraDataCenter('127.0.0.1', entry.port)
  return described
}

async function bringUp (name, before, settings, docker, log) {
  const port = settings.ports[name]
  if (before !== null && before.ours === true && before.port !== port) throw new Error(`it runs on port ${before.port} already; first scripts/services down`)
  const ours = before?.ours === true && (before.how === 'docker' || isSameProcess(before))
  const found = await probe(name, port)
  if (found.answers) {
    log(`${name}: ${ours ? 'ours, runs' : 'found'} on port ${port}`)
    return { entry: await describe(name, ours ? before : { ours: false, how: 'found', port }), started: false }
  }
  if (ours && before.how === 'process') {
    log(`${name}: ours, but it does not answer (${found.reason}); it is started again`)
    await stopService(name, before, settings)
  } else if (found.open) {
    throw new Error(`port ${port} is taken and does not speak its protocol (${found.reason}); choose another with TWINFOLD_SERVICES_${name.toUpperCase()}_PORT`)
  }
  const from = performance.now()
  const entry = await startService(name, settings, docker, line => { log(`${name}: ${line}`) })
  log(`${name}: started (${entry.how}) on port ${port} in ${((performance.now() - from) / 1000).toFixed(1)} s`)
  return { entry: await describe(name, entry), started: true }
}

/**
 * Brings up what does not run.
 * @param {ReturnType<import('./settings.mjs').readSettings>} settings
 * @param {(line: string) => void} log
 * @param {readonly string[]} names of `serviceNames`
 * @returns {Promise<{ state: object, started: string[] }>} `started`: what was started by this very call. A service that could
 *   not be had is null in the state, with its reason under `missing`.
 */
export function up (settings, log, names = serviceNames) {
  return locked(async () => {
    const state = readState()
    const started = []
    const docker = mayUseDocker(settings)
    await Promise.all(names.map(async name => {
      try {
        const result = await bringUp(name, state[name] ?? null, settings, docker, log)
        state[name] = result.entry
        delete state.missing[name]
        if (result.started) started.push(name)
      } catch (error) {
        // Nobody's process is forgotten: what we started and could not use stays in the state, for `down`.
        if (state[name]?.ours !== true || !isSameProcess(state[name])) state[name] = null
        state.missing[name] = error.message
        log(`${name}: NOT THERE: ${error.message}`)
      }
      writeState(state)
    }))
    return { state, started }
  })
}

/** Ends what `up` started: all of it, or the named ones. Returns the names that were ended. */
export function down (settings, log, names = serviceNames) {
  return locked(async () => {
    const state = readState()
    const ended = []
    const faults = []
    await Promise.all(names.filter(name => state[name] !== null && state[name] !== undefined).map(async name => {
      if (state[name].ours !== true) {
        log(`${name}: not ours, left alone`)
        state[name] = null
        return
      }
      try {
        await stopService(name, state[name], settings)
        log(`${name}: stopped`)
        ended.push(name)
        state[name] = null
      } catch (error) {
        faults.push(`${name}: ${error.message}`)
      }
    }))
    if (serviceNames.every(name => (state[name] ?? null) === null)) rmSync(stateFile, { force: true })
    else writeState(state)
    if (faults.length > 0) throw new Error(`could not stop ${faults.join('; ')}`)
    return ended
  })
}

/** What answers now, and whose it is: one line a service. */
export async function status (settings) {
  const state = readState()
  return await Promise.all(serviceNames.map(async name => {
    const entry = state[name] ?? null
    const port = entry?.port ?? settings.ports[name]
    const found = await probe(name, port)
    const whose = entry?.ours === true ? `ours (${entry.how}${entry.pid === undefined ? '' : ` ${entry.pid}`})` : 'not ours'
    const line = found.answers ? `answers on port ${port}, ${whose}` : `does not answer on port ${port}: ${state.missing[name] ?? found.reason}`
    return { name, answers: found.answers, line: `${name}: ${line}` }
  }))
}
