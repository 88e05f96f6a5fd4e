/**
 * The ingest bench (`npm run bench:ingest`): what the server takes, how fast it acknowledges, what it costs, beside servers
 * that promise nothing, in one run.
 *
 * How it is kept fair: one machine, all cores for everybody, no pinning. The same generator process sends the same finished
 * packets (ten metrics, QoS 1) to all; it is measured alone against a sink in every round, so that a figure near its own is
 * recognised as its limit and not the server's. Rounds are interleaved (A B A B …); figures are medians of the rounds and
 * ratios are taken pair by pair, because a shared machine drifts. Servers are warm: each runs through all rounds of its
 * section, and the real server packs everything it took before the next one is measured. CPU is the server's process with
 * all its threads (/proc), packing included as far as it falls into the measured time; memory is the peak. Bare Aedes and
 * bare Fastify store nothing: their acknowledgement means "read", ours means "on stable storage".
 *
 *   --only mqtt,http,latency,packer,idle,solar   sections to run (default all)
 *   --quick                                      shorter and fewer rounds
 *   --rounds N --seconds S                       rounds, and measured seconds of each
 *   --root DIR                                   where the servers keep their data (default .cache): the disk under test
 *   --data DIR                                   solar months (default: the bundled one)
 *   --json FILE                                  (default bench/results/ingest.json)
 */
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseBenchArguments, type BenchContext, type Row } from './support/bench-context.js'
import { printRows, writeReport } from './support/report.js'
import { solarSection } from './support/section-solar.js'
import { idleSection, latencySection, packerSection } from './support/section-steady.js'
import { httpSection, mqttSection } from './support/section-throughput.js'

const sections: Readonly<Record<string, (context: BenchContext) => Promise<Row[]>>> = {
  mqtt: mqttSection, http: httpSection, latency: latencySection, packer: packerSection, idle: idleSection, solar: solarSection
}

const { only, jsonFile, ...given } = parseBenchArguments(process.argv.slice(2), 'bench/results/ingest.json')
const context: BenchContext = { ...given, root: resolve(given.root) }
const unknown = only.filter(name => !(name in sections))
if (unknown.length > 0) throw new Error(`no such section: ${unknown.join(', ')}; there are ${Object.keys(sections).join(', ')}`)
await mkdir(context.root, { recursive: true })
const startedAt = new Date()
const rows: Row[] = []
let failed = false
for (const [name, section] of Object.entries(sections)) {
  if (only.length > 0 && !only.includes(name)) continue
  context.log(`section ${name}`)
  try {
    const found = await section(context)
    printRows(found)
    rows.push(...found)
  } catch (error) {
    // The other sections still count; the run as a whole has failed.
    failed = true
    context.log(`section ${name} failed: ${String((error as Error).stack)}`)
  }
  await writeReport(jsonFile, rows, startedAt)
}
context.log(`written to ${jsonFile}`)
process.exit(failed ? 1 : 0)
