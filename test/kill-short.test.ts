import t from 'tap'
import { runKillDrill } from './support/kill-drill.js'
import { temporaryDirectory } from './support/server.js'

/** Three rounds of the kill drill; `npm run drill:kill` runs many. */
void t.test('acked readings survive SIGKILL exactly once, over MQTT and HTTP', { timeout: 90_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('kill')
  t.teardown(remove)
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  const lines: string[] = []
  const result = await runKillDrill({ directory, seed, rounds: 3, mqttDevices: 4, httpDevices: 2, inFlight: 50, ratePerSecond: 4000, aliveMs: [150, 700], log: line => lines.push(line) })
  const story = lines.join('; ')
  t.ok(result.acked > 100, `enough was acknowledged to mean something: ${result.acked}; ${story}`)
  t.same(result.missing, [], `every acknowledged reading is there; ${story}`)
  t.same(result.twice, [], `none is there twice; ${story}`)
  t.same(result.wrong, [], `each has its value; ${story}`)
  t.same(result.neverSent, [], `nothing is there that was never sent; ${story}`)
  t.ok(result.sealedBuckets > 0, `${result.sealedBuckets} buckets were sealed meanwhile`)
  t.same(result.tierDifferences, [], `tiers are the fold of raw; ${story}`)
})
