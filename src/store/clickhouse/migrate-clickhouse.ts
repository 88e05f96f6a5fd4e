/**
 * Brings a ClickHouse database to this version's schema: the files of schemas/clickhouse, in order of their numbers.
 *
 * ClickHouse has no conditional write to make a lock of, so none is taken: every statement is idempotent (CREATE … IF NOT
 * EXISTS, ALTER … ADD COLUMN IF NOT EXISTS), and two nodes may run the same file side by side or twice. What was applied is
 * kept with a checksum, so that a changed file and a newer server's schema are noticed.
 */
import type { ClickHouseClient } from '@clickhouse/client'
import { pendingMigrations, type AppliedMigration, type MigrateResult, type MigrationFile } from '../migration-files.js'

/**
 * @param database made of lower-case letters, digits and `_`: it stands in statements as it is.
 * @throws what the client throws; TwinfoldError `format_newer` where a newer server was here, `internal` where an applied file was changed.
 */
export async function migrateClickHouse (client: ClickHouseClient, database: string, files: readonly MigrationFile[]): Promise<MigrateResult> {
  const run = async (query: string): Promise<void> => { await client.command({ query: query.replaceAll('{database}', database) }) }
  await run('CREATE DATABASE IF NOT EXISTS {database}')
  await run(`CREATE TABLE IF NOT EXISTS {database}.schema_versions (version UInt32, name String, checksum String, applied_at DateTime DEFAULT now())
    ENGINE = ReplacingMergeTree(applied_at) ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`)
  const answer = await client.query({ query: `SELECT version, name, checksum FROM ${database}.schema_versions FINAL`, format: 'JSONEachRow' })
  const pending = pendingMigrations(files, await answer.json<AppliedMigration>(), 'ClickHouse')
  for (const { version, name, checksum, statements } of pending) {
    for (const statement of statements) await run(statement)
    await client.insert({
      table: `${database}.schema_versions`, columns: ['version', 'name', 'checksum'], format: 'JSONCompactEachRow', values: [[version, name, checksum]],
      clickhouse_settings: { async_insert: 0 }
    })
  }
  return { applied: pending.map(({ name }) => name) }
}
