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
import { startPrivateCassandra } from '../test/support/private-cassandra.js'
import type { CassandraSettings } from '../workers/protocol.js'
import { planSections } from './support/run-sections.js'
import { hotSection } from './support/section-cassandra-hot.js'
import { rowsSection } from './support/section-cassandra-rows.js'
import { serverSection } from './support/section-cassandra-server.js'

// Wrong arguments are told before a Cassandra is started.
const plan = planSections(process.argv.slice(2), 'bench/results/cassandra.json', ['rows', 'server', 'hot'])
const cassandra = await startPrivateCassandra({ nodes: 1, jmx: true })
let succeeded = false
try {
  const settings: CassandraSettings = {
    contactPoints: cassandra.contactPoints, dataCenter: cassandra.dataCenter, keyspace: 'bench', replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false
  }
  succeeded = await plan.run({
    rows: async context => await rowsSection(context, cassandra, settings),
    server: async context => await serverSection(context, cassandra, settings),
    hot: async context => await hotSection(context, cassandra, settings)
  })
} finally {
  await cassandra.close()
}
process.exit(succeeded ? 0 : 1)
