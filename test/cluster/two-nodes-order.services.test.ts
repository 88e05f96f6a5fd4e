/**
 * INVARIANTS 3 between nodes: of several values for one point the one with the greatest (accept stamp, journal id) stands, for
 * every reader and for good, in whatever order and through whichever node they came, with clocks apart.
 */
import t from 'tap'
import { skipWithout } from '../support/services.js'
import { listNodes, pause, startTwoNodes, type NodeProcess, type TwoNodes } from './two-nodes.js'

const real = { timeout: 300_000 }

/** A, B: a value through that node; C: through both at once; p: everything is packed; m: slabs were merged meanwhile. */
const scenarios = ['AB', 'BA', 'C', 'ApB', 'BpA', 'AmB', 'BmA', 'ABA', 'BAB', 'AABB', 'ApBpA', 'BmApC', 'AmBmA', 'CmC', 'ABmBA']
/** One reading a message goes through slabs, ten in one slice make a chunk. */
const shapes = { sparse: 1, dense: 10 }
const firstTsMs = Date.now() - 3600_000

interface Accepted { readonly value: number | string, readonly stamp: number, readonly journal: string }

interface Contest { readonly device: string, readonly scenario: string, readonly readings: number, readonly accepted: Accepted[] }

async function send (node: NodeProcess, journal: string, contest: Contest, value: number | string): Promise<void> {
  const body = Array.from({ length: contest.readings }, (_, i) => ({ ts: firstTsMs + i, values: { v: value } }))
  const answer = await node.api.ask('POST', `/devices/${contest.device}/telemetry`, body)
  if (answer.status !== 202) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`)
  contest.accepted.push({ value, stamp: (answer.body as { stamp: number }).stamp, journal })
}

/** Runs all contests step by step, side by side. */
async function run (nodes: TwoNodes, contests: readonly Contest[]): Promise<void> {
  const journals = new Map((await listNodes(nodes.a)).map(({ name, journal }) => [name, journal]))
  let value = 0
  const steps = Math.max(...contests.map(({ scenario }) => scenario.length))
  for (let step = 0; step < steps; step++) {
    const doing = contests.map(({ scenario }) => scenario[step] ?? '')
    for (let at = 0; at < contests.length; at += 16) {
      await Promise.all(contests.slice(at, at + 16).map(async (contest, i) => {
        const what = doing[at + i]
        const to = nodes.nodes.filter(node => what === 'C' || what === node.name.toUpperCase())
        // Types differ as well: a text may replace a number.
        await Promise.all(to.map(async node => { await send(node, journals.get(node.name) as string, contest, value++ % 5 === 4 ? `t${value}` : value) }))
      }))
    }
    if (doing.includes('p') || doing.includes('m')) await nodes.drain()
    if (doing.includes('m')) await pause(1500)
  }
}

function winner (accepted: readonly Accepted[]): Accepted {
  return accepted.reduce((best, one) => one.stamp > best.stamp || (one.stamp === best.stamp && one.journal > best.journal) ? one : best)
}

async function wrongAnswers (nodes: TwoNodes, contests: readonly Contest[]): Promise<string[]> {
  const wrong: string[] = []
  for (const node of nodes.nodes) {
    for (const { device, scenario, readings, accepted } of contests) {
      const expected = winner(accepted).value
      const found: unknown[] = []
      for await (const reading of node.api.readings(device, firstTsMs - 1000, firstTsMs + 1000)) found.push(reading.values.v)
      if (found.length !== readings || found.some(value => value !== expected)) wrong.push(`${node.name} ${device} ${scenario}: ${JSON.stringify(found)} and not ${JSON.stringify(expected)} of ${JSON.stringify(accepted)}`)
    }
  }
  return wrong
}

for (const skewMs of [200, -200]) {
  void t.test(`different values for one point through both nodes, b ${skewMs} ms off: all readers agree for good on the one accepted last`, real, async t => {
    if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
    const nodes = await startTwoNodes(t, { skewMs: [0, skewMs], settings: { TWINFOLD_MERGE_AFTER_MS: '300' } })
    const contests = scenarios.flatMap(scenario => Object.entries(shapes).map(([shape, readings]): Contest => ({ device: `${scenario}-${shape}`, scenario, readings, accepted: [] })))
    await nodes.a.api.createDevices(contests.map(({ device }) => device))
    await run(nodes, contests)
    await nodes.drain()
    t.same(await wrongAnswers(nodes, contests), [], 'packed')
    await pause(2000)
    t.same(await wrongAnswers(nodes, contests), [], 'merged')
    await nodes.b.kill()
    await nodes.b.start()
    await nodes.drain()
    t.same(await wrongAnswers(nodes, contests), [], 'slices repeated after a kill')
    for (let round = 0; round < 3; round++) {
      await pause(500)
      t.same(await wrongAnswers(nodes, contests), [], `again, ${round}`)
    }
    // A late value after everything was merged and packed again.
    await run(nodes, contests.map((contest, i): Contest => ({ ...contest, scenario: i % 2 === 0 ? 'A' : 'B' })))
    await nodes.drain()
    t.same(await wrongAnswers(nodes, contests), [], 'late, after merges')
  })
}

void t.test('a node 400 ms off the cluster\'s clock is not ready and says why; the other is', real, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const nodes = await startTwoNodes(t, { skewMs: [0, 400] })
  await pause(1500)
  const ready = await Promise.all(nodes.nodes.map(async node => await fetch(`${node.server.httpUrl}/readyz`)))
  t.equal(ready[0].status, 200)
  t.equal(ready[1].status, 503)
  t.match(await ready[1].json(), { ready: false, reasons: [/\d+ ms ahead of the cluster's/] })
  const seen = await listNodes(nodes.a)
  t.match(seen.map(({ name, state }) => [name, state]), [['a', 'live'], ['b', 'clock-off']])
  t.ok(Math.abs((seen[1].clockOffsetMs as number) - 400) < 100, String(seen[1].clockOffsetMs))
})

void t.test('accepted at the node that is ahead, and a second later at the other: the later one wins', real, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const nodes = await startTwoNodes(t, { skewMs: [0, 200] })
  await nodes.a.api.createDevice('d')
  const contest: Contest = { device: 'd', scenario: '', readings: 1, accepted: [] }
  for (let i = 0; i < 10; i++) {
    await send(nodes.nodes[i % 2], '', contest, i)
    await pause(1100)
  }
  t.same(winner(contest.accepted).value, 9)
  t.same(contest.accepted.map(({ stamp }) => stamp), contest.accepted.map(({ stamp }) => stamp).sort((x, y) => x - y))
})
