/**
 * The Cassandra bench (`npm run bench:cassandra`): what the cluster profile makes of Cassandra, beside the two schemas that a
 * team would write itself, on a Cassandra of its own that is started for the run (one node, replication factor 1, synced commit log).
 *
 * Fair as bench/ingest.ts is: interleaved rounds, medians, ratios pair by pair, the same driver, consistency and data for all.
 * Client and Cassandra share the machine's cores.
 *
 *   --only rows,server,hot   sections to run (default all)
 *   --quick                  shorter and fewer rounds
 *   --rounds N --seconds S   rounds, and measured seconds of each
 *   --root DIR               where the server keeps its journal (default .cache)
 *   --data DIR               solar months (default: the bundled one)
 *   --json FILE              (default bench/results/cassandra.json)
 */
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { startPrivateCassandra, type PrivateCassandra } from '../test/support/private-cassandra.js'
import type { CassandraSettings } from '../workers/protocol.js'
import { parseBenchArguments, type BenchContext, type Row } from './support/bench-context.js'
import { printRows, writeReport } from './support/report.js'
import { hotSection } from './support/section-cassandra-hot.js'
import { rowsSection } from './support/section-cassandra-rows.js'
import { serverSection } from './support/section-cassandra-server.js'

type Section = (context: BenchContext, cassandra: PrivateCassandra, settings: CassandraSettings) => Promise<Row[]>
const sections: Readonly<Record<string, Section>> = { rows: rowsSection, server: serverSection, hot: hotSection }

const { only, jsonFile, ...given } = parseBenchArguments(process.argv.slice(2), 'bench/results/cassandra.json')
const context: BenchContext = { ...given, root: resolve(given.root) }
const unknown = only.filter(name => !(name in sections))
if (unknown.length > 0) throw new Error(`no such section: ${unknown.join(', ')}; there are ${Object.keys(sections).join(', ')}`)
await mkdir(context.root, { recursive: true })
const startedAt = new Date()
const rows: Row[] = []
const cassandra = await startPrivateCassandra({ nodes: 1, jmx: true })
let failed = false
try {
  const settings: CassandraSettings = {
    contactPoints: cassandra.contactPoints, dataCenter: cassandra.dataCenter, keyspace: 'bench', replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false
  }
  for (const [name, section] of Object.entries(sections)) {
    if (only.length > 0 && !only.includes(name)) continue
    context.log(`section ${name}`)
    try {
      const found = await section(context, cassandra, settings)
      printRows(found)
      rows.push(...found)
    } catch (error) {
      failed = true
      context.log(`section ${name} failed: ${String((error as Error).stack)}`)
    }
    await writeReport(jsonFile, rows, startedAt)
  }
} finally {
  await cassandra.close()
}
context.log(`written to ${jsonFile}`)
process.exit(failed ? 1 : 0)
