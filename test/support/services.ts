/**
 * The real services that `scripts/services up` started or found, for the suites that run on them, and services of a test's
 * own for the suites that stop, kill or flush theirs.
 */
import { randomInt } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repositoryDirectory } from './service-control.js'

export { startPrivateCassandra, type PrivateCassandra } from './private-cassandra.js'
export { startPrivateRedis, type PrivateRedis } from './private-redis.js'
export { startClickHouseFront, type PrivateClickHouse } from './private-clickhouse.js'

export interface TestServices {
  readonly cassandra: { readonly contactPoint: string, readonly dataCenter: string } | null
  readonly redis: { readonly url: string } | null
  readonly clickHouse: { readonly url: string } | null
  /** Why a service is missing. */
  readonly missing?: Readonly<Partial<Record<ServiceName, string>>>
}

export type ServiceName = 'cassandra' | 'redis' | 'clickHouse'

const stateFile = join(repositoryDirectory, '.services/state.json')

/** What runs now; null for what does not. */
export function services (): TestServices {
  if (!existsSync(stateFile)) return { cassandra: null, redis: null, clickHouse: null }
  return JSON.parse(readFileSync(stateFile, 'utf8')) as TestServices
}

/**
 * Skips the test, with the reason in its output, where the service is not there. `scripts/test.mjs` names and counts such
 * skips, and fails where continuous integration asks for every suite.
 * @returns true when it was skipped: the test then returns at once.
 */
export function skipWithout (test: { pass (message: string, extra: { skip: string }): unknown }, name: ServiceName): boolean {
  const found = services()
  if (found[name] !== null && found[name] !== undefined) return false
  const reason = found.missing?.[name] ?? 'not started (scripts/services up)'
  test.pass(`needs ${name}`, { skip: `${name} is missing: ${reason.split('\n')[0]}` })
  return true
}

/** A keyspace, database or prefix that no other run has. */
export function newTestName (): string {
  return `twinfold_test_${randomInt(36 ** 8).toString(36)}`
}
