import t from 'tap'
import { runKillDrill } from '../support/kill-drill.js'
import { temporaryDirectory } from '../support/server.js'

/**
 * The long kill drill (`npm run drill:kill`, not part of `npm test`). 24 rounds, or ROUNDS=n; SEED=n repeats one. Also as
 * arguments: `node dist/test/drills/kill.test.js --seed=n --rounds=n`.
 */
function argument (name: string, fallback: number): number {
  const given = process.argv.find(text => text.startsWith(`--${name}=`))?.slice(name.length + 3) ?? process.env[name.toUpperCase()]
  return given === undefined ? fallback : Number(given)
}

t.setTimeout(1_800_000)

void t.test('acked readings survive many SIGKILLs exactly once, over MQTT and HTTP', { timeout: 1_800_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('kill-drill')
  t.teardown(remove)
  const result = await runKillDrill({
    directory,
    seed: argument('seed', Date.now() % 2 ** 31),
    rounds: argument('rounds', 24),
    mqttDevices: 8,
    httpDevices: 4,
    inFlight: 100,
    ratePerSecond: 3000,
    aliveMs: [20, 2500],
    log: line => { t.comment(line) }
  })
  t.comment(`sent ${result.sent}, acknowledged ${result.acked}, stored ${result.stored}, sent again ${result.redelivered}, kills ${result.kills}`)
  t.ok(result.acked > 1000, 'enough was acknowledged to mean something')
  t.same(result.missing, [], 'every acknowledged reading is there')
  t.same(result.twice, [], 'none is there twice')
  t.same(result.wrong, [], 'each has its value')
  t.same(result.neverSent, [], 'nothing is there that was never sent')
  t.ok(result.sealedBuckets > 0, 'buckets were sealed meanwhile')
  t.same(result.tierDifferences, [], 'tiers are the fold of raw')
})
