/**
 * The query bench (`npm run bench:query`): dashboards' questions on a year of the solar plant for 20 devices, over HTTP to the real
 * server, embedded and on the running Cassandra, Redis and ClickHouse (scripts/services up; a keyspace of its own, removed afterwards).
 * Every question that tiers answer is asked from raw as well, in the same run, and the answers are compared.
 *
 *   --only embedded,cluster,seconds,fleet,fleet-cluster   sections to run (default all)
 *   --quick               fewer questions of each kind
 *   --days N --devices N  of the solar data (default 365 and 20)
 *   --fleet N             devices of the fleet average (default 1000)
 *   --dashboards N        at once, and --messages N a second meanwhile (default 50 and 20000); 0 leaves that part out
 *   --root DIR            where servers keep their data (default .cache)
 *   --data DIR            solar months (default: the bundled one)
 *   --json FILE           (default bench/results/query.json)
 */
import { planSections } from './support/run-sections.js'
import { fleetSection } from './support/section-fleet-average.js'
import { querySection, type QueryScale } from './support/section-query.js'
import { secondsSection } from './support/section-seconds.js'

const args = process.argv.slice(2)

/** Takes an argument of this bench alone out of the list. @throws Error that names it */
function take (name: string, fallback: number): number {
  const at = args.indexOf(`--${name}`)
  if (at === -1) return fallback
  const [, text] = args.splice(at, 2)
  const value = Number(text)
  if (!Number.isInteger(value) || value < 0) throw new Error(`--${name} takes a whole number`)
  return value
}

const scale: QueryScale = { days: take('days', 365), devices: take('devices', 20), dashboards: take('dashboards', 50), messagesPerSecond: take('messages', 20_000) }
const fleetDevices = take('fleet', 1000)
const plan = planSections(args, 'bench/results/query.json', ['embedded', 'cluster', 'seconds', 'fleet', 'fleet-cluster'])
const succeeded = await plan.run({
  embedded: async context => await querySection(context, 'embedded', scale),
  cluster: async context => await querySection(context, 'cluster', scale),
  seconds: secondsSection,
  fleet: async context => await fleetSection(context, 'embedded', fleetDevices),
  'fleet-cluster': async context => await fleetSection(context, 'cluster', fleetDevices)
})
process.exit(succeeded ? 0 : 1)
