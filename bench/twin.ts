/**
 * The twin bench (`npm run bench:twin`): connected devices over MQTT and operators over HTTP against the real server, embedded and on
 * the running Cassandra, Redis and ClickHouse (scripts/services up; a keyspace of its own, removed afterwards). Clients and server
 * share the machine.
 *
 *   --only embedded,cluster,search,search-cluster   sections to run (default all)
 *   --quick               a few seconds of each
 *   --devices N           connected devices (default 200)
 *   --rate N              desired updates and commands a second (default 200)
 *   --twins N             of the search (default 100000)
 *   --root DIR            where servers keep their data (default .cache)
 *   --json FILE           (default bench/results/twin.json)
 */
import { planSections } from './support/run-sections.js'
import { searchSection } from './support/section-twin-search.js'
import { twinSection, type TwinScale } from './support/section-twin.js'

const args = process.argv.slice(2)

/** Takes an argument of this bench alone out of the list. @throws Error that names it */
function take (name: string, fallback: number): number {
  const at = args.indexOf(`--${name}`)
  if (at === -1) return fallback
  const [, text] = args.splice(at, 2)
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number above 0`)
  return value
}

const scale: TwinScale = { devices: take('devices', 200), ratePerSecond: take('rate', 200) }
const twins = take('twins', 100_000)
const plan = planSections(args, 'bench/results/twin.json', ['embedded', 'cluster', 'search', 'search-cluster'])
const succeeded = await plan.run({
  embedded: async context => await twinSection(context, 'embedded', { ...scale, reportedPerSecond: 2000 }),
  cluster: async context => await twinSection(context, 'cluster', { ...scale, reportedPerSecond: 1000 }),
  search: async context => await searchSection(context, 'embedded', twins),
  'search-cluster': async context => await searchSection(context, 'cluster', twins)
})
process.exit(succeeded ? 0 : 1)
