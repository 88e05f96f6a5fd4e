/**
 * What service control is told from outside, and where it keeps things: versions, ports, folders. Everything that `up` makes
 * lies in `.services/` of the repository (data, logs, state); what it downloads lies in the user's cache folder, which is
 * shared between working copies.
 */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** docker-compose.yml names the same version; a test compares them. */
export const cassandraVersion = '5.0.6'

export const repositoryDirectory = resolve(fileURLToPath(import.meta.url), '../../..')
export const servicesDirectory = join(repositoryDirectory, '.services')
export const stateFile = join(servicesDirectory, 'state.json')
export const cacheDirectory = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'twinfold')

/** Variables that `scripts/services` understands, with what they mean. They are settings of these scripts, not of the server. */
export const variables = {
  TWINFOLD_SERVICES_CASSANDRA_PORT: 'port of Cassandra (9042)',
  TWINFOLD_SERVICES_REDIS_PORT: 'port of Redis (6379)',
  TWINFOLD_SERVICES_CLICKHOUSE_PORT: 'HTTP port of ClickHouse (8123)',
  TWINFOLD_SERVICES_CASSANDRA_HEAP_MB: 'heap of Cassandra in MiB (1024)',
  TWINFOLD_SERVICES_CASSANDRA_JMX_PORT: 'port of JMX on the loopback interface, for nodetool (off)',
  TWINFOLD_SERVICES_WITHOUT_DOCKER: '1: do not ask Docker, install instead',
  TWINFOLD_SERVICES_JAVA: 'the java of Java 17 to run Cassandra with'
}

/**
 * @param {Record<string, string | undefined>} environment
 * @throws Error naming the variable whose value is no whole number in its range.
 */
export function readSettings (environment) {
  const number = (variable, fallback, [least, most]) => {
    const text = environment[variable]
    if (text === undefined || text === '') return fallback
    const value = Number(text)
    if (!Number.isInteger(value) || value < least || value > most) throw new Error(`${variable}='${text}': must be a whole number from ${least} to ${most}`)
    return value
  }
  for (const name of Object.keys(environment)) {
    if (name.startsWith('TWINFOLD_SERVICES_') && !(name in variables)) throw new Error(`${name} is not a setting of scripts/services; there are ${Object.keys(variables).join(', ')}`)
  }
  return {
    ports: {
      cassandra: number('TWINFOLD_SERVICES_CASSANDRA_PORT', 9042, [1, 65_535]),
      redis: number('TWINFOLD_SERVICES_REDIS_PORT', 6379, [1, 65_535]),
      clickHouse: number('TWINFOLD_SERVICES_CLICKHOUSE_PORT', 8123, [1, 65_535])
    },
    cassandraHeapMb: number('TWINFOLD_SERVICES_CASSANDRA_HEAP_MB', 1024, [256, 65_536]),
    cassandraJmxPort: number('TWINFOLD_SERVICES_CASSANDRA_JMX_PORT', null, [1, 65_535]),
    withoutDocker: environment.TWINFOLD_SERVICES_WITHOUT_DOCKER === '1'
  }
}
