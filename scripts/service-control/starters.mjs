/**
 * How each service is started on this machine: by Docker where its daemon answers, else as an ordinary process. A starter
 * resolves to what the state file keeps of it, or throws an error that says what is missing.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ensureCassandraJars, findJava } from './cassandra-install.mjs'
import { prepareCassandraNode } from './cassandra-node.mjs'
import { probeCassandra, probeClickHouse, probeRedis } from './probes.mjs'
import { endProcess, lives, run, startDaemon, startTicks, waitUntilItAnswers } from './processes.mjs'
import { ensureRedisServer, redisArguments } from './redis-server.mjs'
import { repositoryDirectory, servicesDirectory } from './settings.mjs'

const host = '127.0.0.1'
const composeProject = 'twinfold-services'
const dockerTimeoutMs = 300_000
/** The user that docker-compose.yml makes; its own default is the same. */
const composeClickHousePassword = process.env.CLICKHOUSE_PASSWORD || 'twinfold'

export const serviceNames = ['cassandra', 'redis', 'clickHouse']
const composeNames = { cassandra: 'cassandra', redis: 'redis', clickHouse: 'clickhouse' }
const probes = { cassandra: probeCassandra, redis: probeRedis, clickHouse: probeClickHouse }

export function probe (name, port) {
  return probes[name](host, port)
}

function dockerAnswers () {
  return spawnSync('docker', ['info'], { timeout: 10_000 }).status === 0 && spawnSync('docker', ['compose', 'version'], { timeout: 10_000 }).status === 0
}

function compose (args, settings, output) {
  const environment = { ...process.env, CASSANDRA_PORT: String(settings.ports.cassandra), REDIS_PORT: String(settings.ports.redis), CLICKHOUSE_PORT: String(settings.ports.clickHouse) }
  return run('docker', ['compose', '--project-name', composeProject, '--file', join(repositoryDirectory, 'docker-compose.yml'), ...args], { output, timeoutMs: dockerTimeoutMs, cwd: repositoryDirectory, environment })
}

/** Starts a daemon and waits for its protocol; what did not come up does not stay behind. */
async function startAndWait (name, title, port, spec, timeoutMs) {
  const daemon = startDaemon(spec.command, spec.args, { output: spec.logFile, cwd: spec.cwd, environment: spec.environment })
  try {
    await waitUntilItAnswers(() => probe(name, port), { timeoutMs, ended: daemon.ended, name: title, logFile: spec.logFile })
  } catch (error) {
    if (daemon.pid !== undefined && daemon.ended() === '') await endProcess(daemon.pid, 2000)
    throw error
  }
  return { ours: true, how: 'process', pid: daemon.pid, startTicks: startTicks(daemon.pid), port }
}

async function startCassandra (settings, log) {
  const port = settings.ports.cassandra
  const java = findJava()
  const jars = await ensureCassandraJars(log)
  // The usual 7000 for the usual 9042, and next to it otherwise, so that two on one machine do not meet.
  const storagePort = port > 3066 ? port - 2042 : port + 1
  const directory = join(servicesDirectory, `cassandra-${port}`)
  mkdirSync(directory, { recursive: true })
  const spec = prepareCassandraNode({
    directory, java, jars, address: host, nativePort: port, storagePort, jmxPort: settings.cassandraJmxPort,
    seeds: [`${host}:${storagePort}`], heapMb: settings.cassandraHeapMb, ringDelayMs: 100, clusterName: 'twinfold-services'
  })
  return await startAndWait('cassandra', 'Cassandra', port, spec, 120_000)
}

async function startRedis (settings, log) {
  const port = settings.ports.redis
  const { command, environment } = await ensureRedisServer(log)
  const directory = join(servicesDirectory, `redis-${port}`)
  mkdirSync(directory, { recursive: true })
  return await startAndWait('redis', 'Redis', port, { command, environment, args: redisArguments({ directory, port, appendOnly: true, memoryMaxMb: 1024 }), cwd: directory, logFile: join(directory, 'log') }, 20_000)
}

async function startClickHouse (settings) {
  const port = settings.ports.clickHouse
  try { await import('chdb') } catch (error) { throw new Error(`ClickHouse without Docker is the engine of the npm package chdb, which cannot be loaded here: ${error.message.split('\n')[0]}`) }
  const directory = join(servicesDirectory, `clickhouse-${port}`)
  mkdirSync(directory, { recursive: true })
  const front = join(repositoryDirectory, 'scripts/service-control/clickhouse-front.mjs')
  return await startAndWait('clickHouse', 'the ClickHouse front', port, { command: process.execPath, args: [front, '--port', String(port), '--data', directory], cwd: repositoryDirectory, logFile: join(directory, 'log') }, 60_000)
}

const installers = { cassandra: startCassandra, redis: startRedis, clickHouse: startClickHouse }

/** Starts one service that does not run yet. */
export async function startService (name, settings, docker, log) {
  if (docker) {
    const output = join(servicesDirectory, `docker-${name}.log`)
    if (await compose(['up', '--detach', '--wait', composeNames[name]], settings, output) === 0) return { ours: true, how: 'docker', port: settings.ports[name] }
    log(`${name}: Docker could not start it (${output}); installing instead`)
    await compose(['rm', '--stop', '--force', composeNames[name]], settings, output)
  }
  return await installers[name](settings, log)
}

/** Ends a service that this control started, and nothing else: a process must still be the one that was started. */
export async function stopService (name, entry, settings) {
  if (entry.how === 'docker') {
    const code = await compose(['rm', '--stop', '--force', composeNames[name]], settings, join(servicesDirectory, `docker-${name}.log`))
    if (code !== 0) throw new Error(`docker compose rm ended with ${code}`)
    return
  }
  if (isSameProcess(entry)) await endProcess(entry.pid, 30_000)
}

export function isSameProcess ({ pid, startTicks: ticks }) {
  return pid !== undefined && lives(pid) && startTicks(pid) === ticks
}

/** Whether to ask Docker at all. */
export function mayUseDocker (settings) {
  return !settings.withoutDocker && dockerAnswers()
}

/** Where clients find a service. */
export function addressOf (name, entry) {
  if (name === 'cassandra') return { contactPoint: `${host}:${entry.port}` }
  if (name === 'redis') return { url: `redis://${host}:${entry.port}` }
  return { url: entry.how === 'docker' ? `http://twinfold:${composeClickHousePassword}@${host}:${entry.port}` : `http://${host}:${entry.port}` }
}
