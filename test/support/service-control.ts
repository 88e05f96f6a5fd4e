/**
 * The way from the tests to scripts/service-control, which is plain JavaScript because it must run before anything is built:
 * its modules are loaded by their path in the repository, and what the tests use of them is described here.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export interface Probe { readonly answers: boolean, readonly reason?: string }
export interface CommandLine { readonly command: string, readonly args: readonly string[] }
export interface CassandraNodeFiles {
  readonly directory: string
  readonly java: string
  readonly jars: string
  readonly address: string
  readonly nativePort: number
  readonly storagePort: number
  readonly jmxPort: number | null
  readonly seeds: readonly string[]
  readonly heapMb: number
  readonly ringDelayMs: number
  readonly clusterName: string
}

interface Modules {
  readonly 'cassandra-install': { findJava (): string, ensureCassandraJars (log: (line: string) => void): Promise<string> }
  readonly 'cassandra-node': {
    prepareCassandraNode (node: CassandraNodeFiles): CommandLine & { readonly cwd: string, readonly logFile: string }
    nodeToolCommand (node: CassandraNodeFiles, args: readonly string[]): CommandLine
    cassandraDataDirectory (directory: string): string
  }
  readonly 'redis-server': {
    ensureRedisServer (log: (line: string) => void): Promise<{ readonly command: string, readonly environment: NodeJS.ProcessEnv }>
    redisArguments (options: { readonly directory: string, readonly port: number, readonly appendOnly: boolean, readonly memoryMaxMb: number }): string[]
  }
  readonly 'clickhouse-sql': {
    isRead (sql: string): boolean
    secondStatement (sql: string): number | null
    insertFromFile (sql: string): ((file: string) => string) | null
  }
  readonly probes: Record<'probeCassandra' | 'probeRedis' | 'probeClickHouse', (host: string, port: number, timeoutMs?: number) => Promise<Probe>>
  readonly processes: {
    waitUntilItAnswers (probe: () => Promise<Probe>, options: { readonly timeoutMs: number, readonly ended?: () => string, readonly name: string, readonly logFile?: string }): Promise<void>
    lives (pid: number): boolean
  }
}

/** The repository, from the sources as from the built files. */
export const repositoryDirectory = findRepository(dirname(fileURLToPath(import.meta.url)))

function findRepository (from: string): string {
  for (let directory = from; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'scripts/service-control/settings.mjs'))) return directory
    if (directory === dirname(directory)) throw new Error(`scripts/service-control is nowhere above ${from}`)
  }
}

export async function serviceControl<Name extends keyof Modules> (name: Name): Promise<Modules[Name]> {
  return await import(pathToFileURL(join(repositoryDirectory, `scripts/service-control/${name}.mjs`)).href) as Modules[Name]
}
