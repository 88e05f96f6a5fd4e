/**
 * Cassandra without a container: Apache's jars by Maven into the cache folder, once, and a Java 17 to run them. Says what is
 * missing in words that name the package to install.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheDirectory, cassandraVersion } from './settings.mjs'
import { run } from './processes.mjs'

const downloadTimeoutMs = 300_000

/**
 * The command of a Java 17 (Cassandra 5 runs on 11 and 17; our flags are those of 17).
 * @throws Error saying which Java was found instead.
 */
export function findJava (environment = process.env) {
  const candidates = [environment.TWINFOLD_SERVICES_JAVA, environment.JAVA_HOME && join(environment.JAVA_HOME, 'bin/java'), 'java']
  const systemDirectory = '/usr/lib/jvm'
  if (existsSync(systemDirectory)) candidates.push(...readdirSync(systemDirectory).filter(name => /(^|\D)17(\D|$)/.test(name)).map(name => join(systemDirectory, name, 'bin/java')))
  const others = []
  for (const candidate of candidates.filter(name => name !== undefined && name !== '')) {
    const { status, stderr } = spawnSync(candidate, ['-version'], { encoding: 'utf8', timeout: 20_000 })
    if (status !== 0) continue
    const version = /version "(\d+)/.exec(stderr)?.[1] ?? 'unknown'
    if (version === '17') return candidate
    others.push(`${candidate} is Java ${version}`)
  }
  throw new Error(`Cassandra 5 needs Java 17 (Debian: apt-get install openjdk-17-jre-headless)${others.length === 0 ? '; no java was found' : `; ${others.join(', ')}`}`)
}

function pom () {
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>twinfold</groupId><artifactId>cassandra-jars</artifactId><version>1</version>
  <dependencies><dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>${cassandraVersion}</version></dependency></dependencies>
</project>
`
}

/**
 * The folder with Cassandra's jars, fetched if need be. Safe side by side: each fetches into a folder of its own, and the
 * first to finish moves it into place.
 * @param {(line: string) => void} log
 * @throws Error saying what is missing: Maven, or the way to a repository.
 */
export async function ensureCassandraJars (log) {
  const directory = join(cacheDirectory, `cassandra-${cassandraVersion}`)
  const jars = join(directory, 'jars')
  if (existsSync(join(directory, 'complete'))) return jars
  if (spawnSync('mvn', ['-v'], { timeout: 60_000 }).status !== 0) throw new Error(`Cassandra's jars are fetched with Maven, and there is no mvn (Debian: apt-get install maven), nor are they in ${directory} yet`)
  mkdirSync(cacheDirectory, { recursive: true })
  const partial = mkdtempSync(join(cacheDirectory, 'partial-'))
  try {
    log(`fetching Cassandra ${cassandraVersion} (66 MB) into ${directory}`)
    writeFileSync(join(partial, 'pom.xml'), pom())
    const output = join(partial, 'maven.log')
    const code = await run('mvn', ['-q', '-B', '-f', join(partial, 'pom.xml'), 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${join(partial, 'jars')}`], { output, timeoutMs: downloadTimeoutMs })
    const found = existsSync(join(partial, 'jars')) ? readdirSync(join(partial, 'jars')) : []
    if (code !== 0 || !found.includes(`cassandra-all-${cassandraVersion}.jar`)) throw new Error(`Maven could not fetch Cassandra (exit ${code}): ${readFileSync(output, 'utf8').trim().slice(-600)}`)
    writeFileSync(join(partial, 'complete'), `${found.length} jars\n`)
    rmSync(output)
    if (!existsSync(join(directory, 'complete'))) {
      rmSync(directory, { recursive: true, force: true })
      try { renameSync(partial, directory) } catch (error) { if (!existsSync(join(directory, 'complete'))) throw error }
    }
    return jars
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}
