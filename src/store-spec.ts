/** From configuration to what stores, threads and commands are opened with. */
import { join } from 'node:path'
import type { CassandraSettings, ClickHouseSettings, StoreSpec } from '../workers/protocol.js'
import type { Config } from './config.js'

export function cassandraSettings (config: Config): CassandraSettings {
  return {
    contactPoints: config.cassandra, dataCenter: config.cassandraDataCenter, keyspace: config.cassandraKeyspace, replication: config.cassandraReplication,
    consistency: config.cassandraConsistency, user: config.cassandraUser, password: config.cassandraPassword, tls: config.cassandraTls === '1'
  }
}

/** null: no analytics. */
export function clickHouseSettings (config: Config): ClickHouseSettings | null {
  return config.clickHouseUrl === '' || config.analytics === 'off' ? null : { url: config.clickHouseUrl, database: config.clickHouseDatabase }
}

export function storeSpec (config: Config): StoreSpec {
  if (config.profile === 'embedded') return { kind: 'embedded', directory: join(config.dataDirectory, 'store'), ...(config.analytics === 'off' ? {} : { outbox: new SharedArrayBuffer(1) }) }
  return {
    kind: 'cluster', cassandra: cassandraSettings(config), redis: { url: config.redisUrl, prefix: config.redisPrefix }, outbox: config.clickHouseUrl !== '' && config.analytics !== 'off'
  }
}
