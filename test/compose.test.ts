/** What docker-compose.yml, the Dockerfile and the services of the tests promise one another. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { readConfig, settings } from '../src/config.js'
import { repositoryDirectory } from './support/service-control.js'

interface Service {
  readonly image?: string
  readonly build?: string
  readonly environment?: Readonly<Record<string, string | number>>
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly volumes?: readonly string[]
  readonly ports?: readonly string[]
  readonly restart?: string
  readonly command?: readonly string[]
}

const read = (name: string): string => readFileSync(join(repositoryDirectory, name), 'utf8')
const compose = parse(read('docker-compose.yml')) as { readonly services: Readonly<Record<string, Service>>, readonly volumes: Readonly<Record<string, unknown>> }
const { cassandra, redis, twinfold } = compose.services

/** With every `${NAME:-fallback}` at its fallback, as on a machine that sets nothing. */
function withFallbacks (value: string | number): string {
  return String(value).replace(/\$\{[A-Z_]+:-([^}]*)\}/g, '$1')
}

t.test('every image is pinned to a full version', async t => {
  for (const [name, { image, build }] of Object.entries(compose.services)) {
    if (build === undefined) t.match(image, /:\d+\.\d+\.\d+(\.\d+)?$/, `${name} has ${image}`)
  }
  const bases = [...read('Dockerfile').matchAll(/^FROM (\S+)/gm)].map(match => match[1])
  t.equal(bases.length, 2, 'a build stage and the image itself')
  for (const base of bases) t.match(base, /^node:20\.\d+\.\d+-bookworm-slim$/, base)
})

t.test('every service says when it is healthy, keeps its data in a volume and comes back after a crash', async t => {
  t.same(Object.keys(compose.services).sort(), ['cassandra', 'clickhouse', 'redis', 'twinfold'])
  for (const [name, service] of Object.entries(compose.services)) {
    t.ok((service.healthcheck?.test.length ?? 0) > 1, `${name} has a health check`)
    t.equal(service.restart, 'unless-stopped', `${name} is restarted`)
    const volumes = (service.volumes ?? []).map(volume => volume.split(':')[0])
    t.ok(volumes.length > 0 && volumes.every(volume => volume in compose.volumes), `${name} has a named volume`)
  }
})

t.test('the server starts after its stores are healthy', async t => {
  for (const name of ['cassandra', 'redis', 'clickhouse']) t.equal(twinfold.depends_on?.[name]?.condition, 'service_healthy', name)
})

t.test('stores are not reachable from other machines', async t => {
  for (const name of ['cassandra', 'redis', 'clickhouse']) {
    for (const port of compose.services[name].ports ?? []) t.match(port, /^127\.0\.0\.1:/, `${name} ${port}`)
  }
})

t.test('what the server is given are settings that it knows and accepts', async t => {
  const known = new Set<string>(Object.values(settings).map(setting => setting.variable))
  for (const file of ['docker-compose.yml', 'Dockerfile']) {
    for (const [variable] of read(file).matchAll(/TWINFOLD_[A-Z_]+/g)) t.ok(known.has(variable), `${variable} in ${file}`)
  }
  const environment = Object.fromEntries(Object.entries(twinfold.environment ?? {}).map(([name, value]) => [name, withFallbacks(value)]))
  const config = readConfig(environment)
  t.equal(config.profile, 'cluster')
  t.equal(config.host, '0.0.0.0')
  t.match(config.clickHouseUrl, /^http:\/\/\w+:\w+@clickhouse:8123$/)
})

t.test('commits of Cassandra and Redis are on disk before they count', async t => {
  const options = String(cassandra.environment?.JVM_EXTRA_OPTS)
  for (const option of ['config.allow_system_properties=true', 'settings.commitlog_sync=group', 'settings.commitlog_sync_group_window=1ms', 'settings.commitlog_sync_period=0ms', 'settings.storage_compatibility_mode=NONE']) {
    t.ok(options.split(/\s+/).includes(`-Dcassandra.${option}`), option)
  }
  t.ok(redis.command?.join(' ').includes('--appendonly yes'), 'append-only file')
})

t.test('tests and compose run the same Cassandra', async t => {
  const version = /cassandraVersion = '([\d.]+)'/.exec(read('scripts/service-control/settings.mjs'))?.[1]
  t.equal(cassandra.image, `cassandra:${version}`)
})

t.test('the image runs as an ordinary user, checks itself, and stops in order', async t => {
  const dockerfile = read('Dockerfile')
  const image = dockerfile.slice(dockerfile.lastIndexOf('FROM '))
  t.match(image, /^USER node$/m)
  t.match(image, /^HEALTHCHECK [\s\S]*\/readyz/m)
  t.match(image, /^VOLUME \/var\/lib\/twinfold$/m)
  t.match(image, /^STOPSIGNAL SIGTERM$/m)
  t.match(image, /TWINFOLD_HOST=0\.0\.0\.0/)
  for (const [, source] of dockerfile.matchAll(/^COPY (?!--from)(\S+)/gm)) t.ok(existsSync(join(repositoryDirectory, source)), `${source} is there to be copied`)
  for (const [, source] of dockerfile.matchAll(/^COPY (?!--from)(\S+)/gm)) {
    // A folder lets through what lies in it.
    const through = read('.dockerignore').split('\n').some(line => line.startsWith('!') && `${source}/`.startsWith(`${line.slice(1)}/`))
    t.ok(through, `.dockerignore lets ${source} through`)
  }
})

t.test('Docker itself accepts the file', { skip: spawnSync('docker', ['compose', 'version']).status === 0 ? false : 'this machine has no docker compose' }, async t => {
  const { status, stderr } = spawnSync('docker', ['compose', '--file', join(repositoryDirectory, 'docker-compose.yml'), 'config', '--quiet'], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
})
