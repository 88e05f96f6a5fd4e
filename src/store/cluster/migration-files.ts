/** Numbered schema files, which the embedded profile's ClickHouse has as well: they live beside the ports. */
export { pendingMigrations, readMigrations, schemaFolder, splitStatements, type AppliedMigration, type MigrateResult, type MigrationFile } from '../migration-files.js'
