/**
 * Configuration: environment variables into one frozen, validated object. A wrong value stops the start with a line that
 * names the variable and what it accepts. docs/CONFIGURATION.md lists the same table; a test compares them.
 */
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'

interface Setting<T> {
  readonly variable: string
  readonly meaning: string
  readonly fallback: string
  parse(text: string): T
}

class ConfigError extends Error {}

function text (variable: string, fallback: string, meaning: string): Setting<string> {
  return { variable, meaning, fallback, parse: value => value }
}

function integer (variable: string, fallback: number, range: readonly [number, number], meaning: string): Setting<number> {
  return {
    variable,
    meaning: `${meaning} (${range[0]} to ${range[1]})`,
    fallback: String(fallback),
    parse: value => {
      const number = Number(value)
      if (value.trim() === '' || !Number.isInteger(number) || number < range[0] || number > range[1]) throw new ConfigError(`${variable}='${value}': must be a whole number from ${range[0]} to ${range[1]}`)
      return number
    }
  }
}

function oneOf<T extends string> (variable: string, fallback: T, allowed: readonly T[], meaning: string): Setting<T> {
  return {
    variable,
    meaning: `${meaning} (${allowed.join(', ')})`,
    fallback,
    parse: value => {
      if (!(allowed as readonly string[]).includes(value)) throw new ConfigError(`${variable}='${value}': must be one of ${allowed.join(', ')}`)
      return value as T
    }
  }
}

function matching (variable: string, fallback: string, pattern: RegExp, meaning: string, form: string): Setting<string> {
  return {
    variable,
    meaning: `${meaning} (${form})`,
    fallback,
    parse: value => {
      if (!pattern.test(value)) throw new ConfigError(`${variable}='${value}': must be ${form}`)
      return value
    }
  }
}

function list (variable: string, fallback: string, meaning: string): Setting<readonly string[]> {
  return {
    variable,
    meaning,
    fallback,
    parse: value => {
      const items = value.split(',').map(item => item.trim())
      if (items.some(item => !/^[A-Za-z0-9_.:[\]-]+$/.test(item))) throw new ConfigError(`${variable}='${value}': must be host or host:port, commas between`)
      return items
    }
  }
}

function replicas (variable: string, fallback: string, meaning: string): Setting<Readonly<Record<string, number>>> {
  return {
    variable,
    meaning,
    fallback,
    parse: value => {
      const byDataCenter: Record<string, number> = {}
      for (const item of value === '' ? [] : value.split(',')) {
        const match = /^\s*([A-Za-z0-9_-]+):([1-9][0-9]?)\s*$/.exec(item)
        if (match === null) throw new ConfigError(`${variable}='${value}': must be data-centre:replicas, commas between, as in dc1:3,dc2:3`)
        byDataCenter[match[1]] = Number(match[2])
      }
      return byDataCenter
    }
  }
}

function ranges (variable: string, meaning: string): Setting<readonly string[]> {
  return {
    variable,
    meaning,
    fallback: '',
    parse: value => {
      const items = value === '' ? [] : value.split(',').map(item => item.trim())
      for (const item of items) {
        const [address, bits = '', ...more] = item.split('/')
        const family = isIP(address)
        if (family === 0 || more.length > 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) throw new ConfigError(`${variable}='${value}': must be address ranges, commas between, as in 10.1.0.0/16`)
      }
      return items
    }
  }
}

const threadsDefault = Math.max(1, Math.min(8, availableParallelism() - 1))

export const settings = {
  profile: oneOf('TWINFOLD_STORE', 'embedded', ['embedded', 'cluster'], 'Where data is kept: on this machine alone, or in Cassandra and Redis (and ClickHouse)'),
  dataDirectory: text('TWINFOLD_DATA', './data', 'Directory of the journal and the embedded store'),
  host: text('TWINFOLD_HOST', '127.0.0.1', 'Address that MQTT and HTTP bind to; 0.0.0.0 or :: for all interfaces'),
  mqttPort: integer('TWINFOLD_MQTT_PORT', 1883, [0, 65_535], 'Port of MQTT over TCP; 0 takes any free one'),
  mqttTlsPort: integer('TWINFOLD_MQTT_TLS_PORT', 8883, [0, 65_535], 'Port of MQTT over TLS, used when TWINFOLD_TLS_KEY and TWINFOLD_TLS_CERT are set'),
  tlsKeyFile: text('TWINFOLD_TLS_KEY', '', 'PEM file of the TLS private key'),
  tlsCertFile: text('TWINFOLD_TLS_CERT', '', 'PEM file of the TLS certificate chain'),
  httpPort: integer('TWINFOLD_HTTP_PORT', 8080, [0, 65_535], 'Port of HTTP and of MQTT over WebSocket (/mqtt); 0 takes any free one'),
  adminKey: text('TWINFOLD_ADMIN_KEY', '', 'Platform admin key to use instead of a generated one: twa_ and 43 characters of base64url'),
  logLevel: oneOf('TWINFOLD_LOG', 'info', ['debug', 'info', 'warn', 'error', 'silent'], 'Least severe log line that is written'),
  readyJson: oneOf('TWINFOLD_READY_JSON', '0', ['0', '1'], 'Print one JSON line with the ports when ready, for scripts'),
  connectionsMax: integer('TWINFOLD_CONNECTIONS_MAX', 100_000, [1, 1_000_000], 'MQTT connections held at once'),
  packThreads: integer('TWINFOLD_PACK_THREADS', threadsDefault, [1, 64], 'Threads that pack the journal into rows'),
  queryThreads: integer('TWINFOLD_QUERY_THREADS', Math.max(1, Math.floor(threadsDefault / 2)), [1, 64], 'Threads that answer queries'),
  importBytesMax: integer('TWINFOLD_IMPORT_BYTES_MAX', 4 * 1024 ** 3, [1024, 2 ** 50], 'Largest file of an import, unpacked'),
  importSpoolBytesMax: integer('TWINFOLD_IMPORT_SPOOL_BYTES_MAX', 16 * 1024 ** 3, [1024, 2 ** 50], 'Bytes of files of imports that wait on this node; one more gets 409'),
  exportsMax: integer('TWINFOLD_EXPORTS_MAX', 2, [1, 64], 'Exports at once, a thread each; one more gets 429'),
  queriesWaitingMax: integer('TWINFOLD_QUERIES_WAITING_MAX', 256, [1, 100_000], 'Queries that may wait for a thread; one more gets 429'),
  queryTimeoutMs: integer('TWINFOLD_QUERY_TIMEOUT_MS', 30_000, [100, 600_000], 'A query that takes longer is given up'),
  sliceIntervalMs: integer('TWINFOLD_SLICE_INTERVAL_MS', 100, [5, 10_000], 'Time between two slices of an idle server: the delay from acked to queryable'),
  lagMsMax: integer('TWINFOLD_LAG_MS_MAX', 1000, [100, 3_600_000], 'Packing backlog, in time, from which senders are slowed'),
  journalBytesMax: integer('TWINFOLD_JOURNAL_BYTES_MAX', 8 * 1024 ** 3, [256 * 1024 ** 2, 2 ** 50], 'Bytes of journal on disk; slowed at 80 %, refused at 100 %'),
  journalKeepMs: integer('TWINFOLD_JOURNAL_KEEP_MS', 60_000, [0, 86_400_000], 'How long a packed and flushed segment is kept'),
  mergeAfterMs: integer('TWINFOLD_MERGE_AFTER_MS', 60_000, [100, 3_600_000], 'Age from which slabs of sparse devices are merged per device'),
  sealThreads: integer('TWINFOLD_SEAL_THREADS', 1, [1, 64], 'Threads that seal: raw readings into compact chunks and the tiers above them'),
  sealAfterMs: integer('TWINFOLD_SEAL_AFTER_MS', 20_000, [50, 60_000], 'How long late readings are gathered before their bucket is sealed again'),
  sealLagAlertS: integer('TWINFOLD_SEAL_LAG_ALERT_S', 300, [10, 86_400], 'Age of the oldest overdue seal from which the log says that sealing is behind'),
  staleAfterS: integer('TWINFOLD_STALE_AFTER_S', 900, [10, 31_536_000], 'A device that was heard of before, but not for longer than this, is stale'),
  twinHistoryDays: integer('TWINFOLD_TWIN_HISTORY_DAYS', 90, [1, 36_500], 'Days that changes of twins are kept'),
  commandsPendingMax: integer('TWINFOLD_COMMANDS_PENDING_MAX', 100, [1, 1000], 'Commands of one device that may be pending; one more gets 409'),
  webhookPrivate: oneOf('TWINFOLD_WEBHOOK_PRIVATE', 'refuse', ['refuse', 'allow'], 'Webhooks to private, loopback and link-local addresses'),
  webhookAllow: ranges('TWINFOLD_WEBHOOK_ALLOW', 'Address ranges that webhooks may reach though they are private, commas between, as in 10.1.0.0/16'),
  nodeName: text('TWINFOLD_NODE', '', 'Name of this node in logs and metrics; the host name unless given'),
  ack: oneOf('TWINFOLD_ACK', 'journal', ['journal', 'replicated'], 'When telemetry is acknowledged: in the synced journal of this node, or in Cassandra as well (cluster only)'),
  cassandra: list('TWINFOLD_CASSANDRA', '127.0.0.1:9042', 'Cassandra nodes to begin with: host or host:port, commas between'),
  cassandraDataCenter: text('TWINFOLD_CASSANDRA_DATA_CENTER', 'datacenter1', 'Data centre whose nodes this server talks to'),
  cassandraKeyspace: matching('TWINFOLD_CASSANDRA_KEYSPACE', 'twinfold', /^[a-z][a-z0-9_]{0,47}$/, 'Keyspace', 'a lower-case letter and up to 47 lower-case letters, digits and _'),
  cassandraReplication: replicas('TWINFOLD_CASSANDRA_REPLICATION', '', 'Replicas by data centre when the keyspace is made, as in dc1:3,dc2:3; 1 in the data centre above unless given'),
  cassandraConsistency: oneOf('TWINFOLD_CASSANDRA_CONSISTENCY', 'LOCAL_QUORUM', ['LOCAL_QUORUM', 'QUORUM', 'EACH_QUORUM', 'LOCAL_ONE'], 'Consistency of writes and reads; LOCAL_ONE may show and acknowledge what a lost replica takes with it'),
  cassandraUser: text('TWINFOLD_CASSANDRA_USER', '', 'User name'),
  cassandraPassword: text('TWINFOLD_CASSANDRA_PASSWORD', '', 'Password'),
  cassandraTls: oneOf('TWINFOLD_CASSANDRA_TLS', '0', ['0', '1'], 'TLS to Cassandra'),
  redisUrl: matching('TWINFOLD_REDIS', 'redis://127.0.0.1:6379', /^rediss?:\/\/\S+$/, 'Redis: hot state, messages and sessions between nodes', 'a redis:// or rediss:// address'),
  redisPrefix: matching('TWINFOLD_REDIS_PREFIX', 'twinfold', /^[A-Za-z0-9_.-]{1,64}$/, 'Before every key and channel in Redis', '1 to 64 letters, digits, _ . -'),
  analytics: oneOf('TWINFOLD_ANALYTICS', 'auto', ['auto', 'on', 'off'], 'Fleet-wide analytics; auto: embedded from the first question on, in a cluster where TWINFOLD_CLICKHOUSE is set'),
  analyticsMemoryMb: integer('TWINFOLD_ANALYTICS_MEMORY_MB', 1024, [256, 1_048_576], 'Memory of the embedded analytics engine, which runs in a process of its own'),
  analyticsThreads: integer('TWINFOLD_ANALYTICS_THREADS', 2, [1, 64], 'Threads of one statement in the embedded analytics engine'),
  sql: oneOf('TWINFOLD_SQL', 'on', ['on', 'off'], 'SQL of tenants over their own rows; on: where analytics and the package chdb are there'),
  clickHouseUrl: matching('TWINFOLD_CLICKHOUSE', '', /^(https?:\/\/\S+)?$/, 'ClickHouse over HTTP for fleet-wide analytics, user and password in the address; none unless given', 'an http:// or https:// address, or empty'),
  clickHouseDatabase: matching('TWINFOLD_CLICKHOUSE_DATABASE', 'twinfold', /^[a-z][a-z0-9_]{0,47}$/, 'Database in ClickHouse', 'a lower-case letter and up to 47 lower-case letters, digits and _')
} as const

export type Config = { readonly [K in keyof typeof settings]: ReturnType<(typeof settings)[K]['parse']> }

/** @throws Error naming every variable that is wrong. */
export function readConfig (environment: Readonly<Record<string, string | undefined>>): Config {
  const values: Record<string, unknown> = {}
  const wrong: string[] = []
  for (const [name, setting] of Object.entries(settings)) {
    try {
      values[name] = setting.parse(environment[setting.variable] ?? setting.fallback)
    } catch (error) {
      wrong.push((error as Error).message)
    }
  }
  const known = new Set<string>(Object.values(settings).map(setting => setting.variable))
  for (const name of Object.keys(environment)) {
    if (name.startsWith('TWINFOLD_') && !known.has(name)) wrong.push(`${name} is not a setting; see docs/CONFIGURATION.md`)
  }
  if (values.adminKey !== '' && !/^twa_[A-Za-z0-9_-]{43}$/.test(String(values.adminKey))) wrong.push('TWINFOLD_ADMIN_KEY: must be twa_ followed by 43 characters of base64url')
  if ((values.tlsKeyFile === '') !== (values.tlsCertFile === '')) wrong.push('TWINFOLD_TLS_KEY and TWINFOLD_TLS_CERT belong together: set both or none')
  if (values.ack === 'replicated' && values.profile !== 'cluster') wrong.push('TWINFOLD_ACK=replicated needs TWINFOLD_STORE=cluster: there is no other copy on one machine')
  if (values.clickHouseUrl !== '' && values.profile !== 'cluster') wrong.push('TWINFOLD_CLICKHOUSE needs TWINFOLD_STORE=cluster')
  if (wrong.length > 0) throw new Error(`the configuration is wrong:\n  ${wrong.join('\n  ')}`)
  return Object.freeze(values) as Config
}
