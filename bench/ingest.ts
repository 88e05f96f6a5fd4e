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
import { planSections, type Section } from './support/run-sections.js'
import { solarSection } from './support/section-solar.js'
import { idleSection, latencySection, packerSection } from './support/section-steady.js'
import { httpSection, mqttSection } from './support/section-throughput.js'

const sections: Readonly<Record<string, Section>> = {
  mqtt: mqttSection, http: httpSection, latency: latencySection, packer: packerSection, idle: idleSection, solar: solarSection
}

const succeeded = await planSections(process.argv.slice(2), 'bench/results/ingest.json', Object.keys(sections)).run(sections)
process.exit(succeeded ? 0 : 1)
