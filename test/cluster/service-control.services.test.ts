/** Services that are started, killed and stopped for good: service control on ports of its own, and the private ones of tests. */
import cassandraDriver from 'cassandra-driver'
import { Redis } from 'ioredis'
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { freePort } from '../support/private-process.js'
import { repositoryDirectory, serviceControl } from '../support/service-control.js'
import { skipWithout, startPrivateCassandra, startPrivateRedis } from '../support/services.js'

interface Entry { readonly pid?: number, readonly ours: boolean, readonly port: number }
type State = Readonly<Record<'cassandra' | 'redis' | 'clickHouse', Entry | null>> & { readonly missing: Readonly<Record<string, string>> }

/** A working copy in which nothing runs yet, on ports that nobody uses. */
async function workingCopy (t: Test): Promise<{ readonly directory: string, call (args: string[], more?: NodeJS.ProcessEnv): { readonly status: number | null, readonly stdout: string }, state (): State, readonly ports: Readonly<Record<'cassandra' | 'redis' | 'clickHouse', number>> }> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-copy-'))
  for (const name of ['scripts', 'docker-compose.yml', 'package.json']) cpSync(join(repositoryDirectory, name), join(directory, name), { recursive: true })
  symlinkSync(join(repositoryDirectory, 'node_modules'), join(directory, 'node_modules'))
  const ports = { cassandra: await freePort(['127.0.0.1']), redis: await freePort(['127.0.0.1']), clickHouse: await freePort(['127.0.0.1']) }
  const environment = {
    ...process.env, TWINFOLD_SERVICES_WITHOUT_DOCKER: '1', TWINFOLD_SERVICES_CASSANDRA_HEAP_MB: '512',
    TWINFOLD_SERVICES_CASSANDRA_PORT: String(ports.cassandra), TWINFOLD_SERVICES_REDIS_PORT: String(ports.redis), TWINFOLD_SERVICES_CLICKHOUSE_PORT: String(ports.clickHouse)
  }
  const call = (args: string[], more: NodeJS.ProcessEnv = {}) => spawnSync(join(directory, 'scripts/services'), args, { encoding: 'utf8', env: { ...environment, ...more }, timeout: 300_000 })
  t.teardown(async () => {
    call(['down'])
    await rm(directory, { recursive: true, force: true })
  })
  return { directory, call, ports, state: () => JSON.parse(readFileSync(join(directory, '.services/state.json'), 'utf8')) as State }
}

t.test('up starts what is missing, once; down ends exactly that', { timeout: 400_000 }, async t => {
  if (['cassandra', 'redis', 'clickHouse'].some(name => skipWithout(t, name as 'redis'))) return
  const { lives } = await serviceControl('processes')
  const { probeRedis } = await serviceControl('probes')
  const { directory, call, state, ports } = await workingCopy(t)
  const other = await startPrivateRedis()
  t.teardown(async () => { await other.close() })
  const otherPort = new URL(other.url).port

  t.match(call(['status']), { status: 1, stdout: /cassandra: does not answer/ }, 'nothing runs yet')
  const environment = { TWINFOLD_SERVICES_REDIS_PORT: otherPort }
  const first = call(['up'], environment)
  t.equal(first.status, 0, first.stdout)
  const before = state()
  t.match(before, { cassandra: { ours: true, port: ports.cassandra, dataCenter: 'datacenter1' }, redis: { ours: false }, clickHouse: { ours: true } })
  const pids = [before.cassandra?.pid, before.clickHouse?.pid].map(Number)
  t.ok(pids.every(pid => lives(pid)))

  t.equal(call(['up'], environment).status, 0, 'again')
  t.same(state(), before, 'a second up changes nothing')

  process.kill(pids[1], 'SIGKILL')
  while (lives(pids[1])) await delay(20)
  t.match(call(['status'], environment), { status: 1, stdout: /clickHouse: does not answer/ })
  t.equal(call(['up'], environment).status, 0)
  t.not(state().clickHouse?.pid, pids[1], 'a killed one is started again')
  t.equal(state().cassandra?.pid, pids[0], 'the others are left alone')
  pids[1] = Number(state().clickHouse?.pid)

  t.equal(call(['down'], environment).status, 0)
  t.notOk(pids.some(pid => lives(pid)), 'no process of ours is left')
  t.ok((await probeRedis('127.0.0.1', Number(otherPort))).answers, 'a service that was found is not stopped')
  t.notOk(existsSync(join(directory, '.services/state.json')))
  t.equal(call(['down'], environment).status, 0, 'down of nothing is fine')
})

t.test('a process id that is somebody else\'s by now is not ended', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'redis')) return
  const { directory, call, state } = await workingCopy(t)
  t.equal(call(['up', 'redis']).status, 0)
  const entry = state().redis
  const bystander = spawn('sleep', ['60'], { stdio: 'ignore' })
  t.teardown(() => { bystander.kill('SIGKILL') })
  process.kill(Number(entry?.pid), 'SIGKILL')
  const { writeFileSync } = await import('node:fs')
  writeFileSync(join(directory, '.services/state.json'), JSON.stringify({ ...state(), redis: { ...entry, pid: bystander.pid } }))
  t.equal(call(['down']).status, 0)
  t.equal(bystander.exitCode ?? bystander.signalCode, null, 'the bystander lives')
})

t.test('two ups at once start one of each', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'redis')) return
  const { directory, ports, state, call } = await workingCopy(t)
  const environment = { ...process.env, TWINFOLD_SERVICES_WITHOUT_DOCKER: '1', TWINFOLD_SERVICES_REDIS_PORT: String(ports.redis) }
  const outputs = await Promise.all([1, 2, 3].map(async () => await new Promise<string>(resolve => {
    const child = spawn(join(directory, 'scripts/services'), ['up', 'redis'], { env: environment, stdio: ['ignore', 'pipe', 'ignore'] })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
    child.once('close', () => { resolve(output) })
  })))
  t.equal(outputs.filter(output => output.includes('redis: started')).length, 1, outputs.join(''))
  t.ok(state().redis?.ours)
  t.equal(call(['down']).status, 0)
})

t.test('a private service does not outlive the test process, even one that was killed', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'redis')) return
  const { lives } = await serviceControl('processes')
  const module = pathToFileURL(join(repositoryDirectory, 'dist/test/support/private-redis.js')).href
  const child = spawn(process.execPath, ['--input-type=module', '-e', `const { startPrivateRedis } = await import(${JSON.stringify(module)}); const redis = await startPrivateRedis({ appendOnly: true }); console.log(redis.url); setInterval(() => {}, 1000)`], { stdio: ['ignore', 'pipe', 'inherit'] })
  const url = (await new Promise<string>(resolve => { child.stdout.once('data', (data: Buffer) => { resolve(String(data).trim()) }) }))
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null })
  client.on('error', () => { /* Its server is killed below. */ })
  await client.connect()
  const info = await client.info('server')
  const pid = Number(/process_id:(\d+)/.exec(info)?.[1])
  const folder = (await client.config('GET', 'dir') as string[])[1]
  client.disconnect()
  t.ok(lives(pid) && existsSync(folder))
  child.kill('SIGKILL')
  const deadline = performance.now() + 15_000
  while ((lives(pid) || existsSync(folder)) && performance.now() < deadline) await delay(50)
  t.notOk(lives(pid), 'the process is gone')
  t.notOk(existsSync(folder), 'its folder is gone')
})

t.test('private Redis keeps what it answered with an append-only file, and nothing without', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'redis')) return
  for (const appendOnly of [true, false]) {
    const redis = await startPrivateRedis({ appendOnly })
    t.teardown(async () => { await redis.close() })
    const set = new Redis(redis.url)
    await set.set('k', 'v')
    set.disconnect()
    await redis.kill()
    await redis.start()
    const get = new Redis(redis.url)
    t.equal(await get.get('k'), appendOnly ? 'v' : null)
    get.disconnect()
    await redis.close()
  }
})

t.test('private Cassandra: two nodes, writes survive SIGKILL, a paused node answers again', { timeout: 400_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const cassandra = await startPrivateCassandra({ nodes: 2 })
  t.teardown(async () => { await cassandra.close() })
  const connect = (): cassandraDriver.Client => {
    const client = new cassandraDriver.Client({ contactPoints: [...cassandra.contactPoints], localDataCenter: cassandra.dataCenter, protocolOptions: { port: Number(cassandra.contactPoints[0].split(':')[1]) }, queryOptions: { consistency: cassandraDriver.types.consistencies.localQuorum, prepare: true, isIdempotent: true } })
    t.teardown(async () => { await client.shutdown() })
    return client
  }
  const first = connect()
  await first.execute("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 2}")
  await first.execute('CREATE TABLE k.t (a int PRIMARY KEY, b int)')
  for (let a = 0; a < 200; a++) await first.execute('INSERT INTO k.t (a, b) VALUES (?, ?)', [a, a])
  await first.shutdown()
  await Promise.all([cassandra.kill(0), cassandra.kill(1)])
  await Promise.all([cassandra.start(0), cassandra.start(1)])
  const second = connect()
  t.equal((await second.execute('SELECT count(*) AS n FROM k.t')).rows[0].n.toNumber(), 200, 'both killed at once: all that was acknowledged is there, at quorum')
  cassandra.pause(1)
  await t.rejects(second.execute('INSERT INTO k.t (a, b) VALUES (1000, 1)', [], { readTimeout: 3000, retry: new cassandraDriver.policies.retry.FallthroughRetryPolicy() }), 'no quorum while one is paused')
  cassandra.resume(1)
  await delay(1000)
  await t.resolves(second.execute('INSERT INTO k.t (a, b) VALUES (1001, 1)'), 'and one after it was resumed')
  t.match(await cassandra.nodeTool(0, 'status'), /UN\s+127\.0\.0\.3/)
  t.ok(existsSync(join(cassandra.dataDirectory(1), 'k')), 'the data directory holds the keyspace')
})
