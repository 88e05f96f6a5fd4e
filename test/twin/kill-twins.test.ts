/**
 * INVARIANTS 5 (and 1 for what devices report) on a real server with embedded storage that is killed again and again: what was
 * acknowledged is in the twin, every change is one version and one event, and every event comes out.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { seededRandom, type Random } from '../../simulators/fleet/seeded-random.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'
import { EventStreamClient, WebhookTarget } from '../support/told-events.js'
import { allChanges, DesiredWriter, getTwin, historyFindings, pauseMs, TwinReporter, until } from '../support/twin-drill.js'

const devices = 20
const kills = 4
const aliveMs = [150, 800] as const
const settleMs = 30_000
const settings = { TWINFOLD_WEBHOOK_PRIVATE: 'allow' }
const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))

/** `twinfold rebuild twins --check`, as an operator calls it. */
async function rebuildCheck (directory: string): Promise<string> {
  const child = spawn(process.execPath, [mainFile, 'rebuild', 'twins', '--check'], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TWINFOLD_DATA: directory } })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => { output += bytes.toString() })
  await new Promise(resolve => { child.once('close', resolve) })
  return output
}

interface Drill {
  readonly key: string
  readonly ids: readonly string[]
  readonly reporters: readonly TwinReporter[]
  readonly writers: readonly DesiredWriter[]
  readonly stream: EventStreamClient
  readonly webhook: WebhookTarget
}

async function prepare (test: Test, server: TestServer, random: Random): Promise<Drill> {
  const key = await server.api(testAdminKey).createTenant('drill', 30)
  const webhook = await WebhookTarget.open(random, 100)
  test.teardown(async () => { await webhook.close() })
  const { status } = await server.api(key).ask('POST', '/webhooks', { url: webhook.url, types: ['twin.*'], maxBatch: 100 })
  if (status !== 201) throw new Error(`the webhook was answered with ${status}`)
  const stream = new EventStreamClient(key, Date.now() - 1000)
  test.teardown(async () => { await stream.close() })
  const ids = Array.from({ length: devices }, (_, i) => `d${i}`)
  const tokens = await server.api(key).createDevices(ids)
  const reporters = ids.map((id, i) => new TwinReporter({ id, token: tokens[i], random, pauseMsMax: 20, inFlight: 4 }))
  test.teardown(() => { for (const reporter of reporters) reporter.close() })
  const writers = ids.map(id => new DesiredWriter(id, random, 20))
  test.teardown(() => { for (const writer of writers) writer.close() })
  return { key, ids, reporters, writers, stream, webhook }
}

function run ({ key, reporters, writers, stream }: Drill, server: TestServer): void {
  for (const reporter of reporters) reporter.run(server.mqttPort)
  for (const writer of writers) writer.run(server.api(key))
  stream.run(server.httpUrl)
}

/** What was acknowledged is there, before anybody writes again. */
async function lostAtRestart ({ key, ids, writers }: Drill, server: TestServer): Promise<string[]> {
  const before = writers.map(({ version, ledger }) => ({ version, number: ledger.ackedMax }))
  const twins = await Promise.all(ids.map(async id => await getTwin(server.api(key), id)))
  return twins.flatMap((twin, i) => twin.version < before[i].version || Number(twin.desired.d ?? 0) < before[i].number ? [`${ids[i]}: ${JSON.stringify(before[i])} was acknowledged, it is at ${twin.version}`] : [])
}

async function settle ({ reporters, writers, webhook }: Drill): Promise<void> {
  for (const reporter of reporters) reporter.stopProducing()
  webhook.calm = true
  await Promise.all(writers.map(async writer => { await writer.finish() }))
  await until('every report is acknowledged', settleMs, () => reporters.every(({ outstanding }) => outstanding === 0))
}

async function compare (test: Test, { key, ids, reporters, writers, stream, webhook }: Drill, server: TestServer): Promise<number> {
  const api = server.api(key)
  let events = 0
  for (const [i, id] of ids.entries()) {
    const reported = reporters[i].ledger
    await until(`${id} shows what it reported`, settleMs, async () => (await getTwin(api, id)).reported.r === reported.last)
    const twin = await getTwin(api, id)
    events += twin.version
    test.strictSame({ ...twin.reported }, reported.expected(), `${id}: every report is in the twin`)
    test.strictSame({ ...twin.desired }, writers[i].ledger.expected(), `${id}: so is everything desired`)
    const changes = await allChanges(api, id)
    test.strictSame([...historyFindings(changes, twin.version), ...reported.findings(changes), ...writers[i].ledger.findings(changes)], [], `${id}: ${twin.version} versions, each once`)
    test.strictSame(writers[i].refused, [])
    await until(`the stream has ${twin.version} events of ${id}`, settleMs, () => stream.told.of(id).length >= twin.version).catch(error => { test.fail((error as Error).message) })
    await until(`the webhook has ${twin.version} events of ${id}`, settleMs, () => webhook.told.of(id).length >= twin.version).catch(error => { test.fail((error as Error).message) })
    test.strictSame([stream.told.findings(id, twin.version), webhook.told.findings(id, twin.version)], [[], []], `${id}: told in order`)
  }
  return events
}

void t.test('acknowledged changes of twins survive SIGKILL, each is one version and one event, and every event comes out', { timeout: 150_000 }, async test => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  test.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const { directory, remove } = await temporaryDirectory('kill-twins')
  let server = await startServer({ directory, settings })
  test.teardown(async () => {
    await server.kill()
    await remove()
  })
  const drill = await prepare(test, server, random)
  const { reporters, writers, stream, webhook } = drill
  run(drill, server)
  for (let round = 1; round <= kills; round++) {
    await pauseMs(aliveMs[0] + random() * (aliveMs[1] - aliveMs[0]))
    await server.kill()
    server = await startServer({ directory, settings })
    const lost = await lostAtRestart(drill, server).catch((error: unknown) => [String(error), server.errorText])
    test.strictSame(lost, [], `start ${round + 1}: nothing acknowledged is lost`)
    run(drill, server)
  }
  await pauseMs(300)
  await settle(drill)
  const events = await compare(test, drill, server)
  const acked = (ledgers: readonly { readonly ledger: { readonly acked: ReadonlySet<number> } }[]): number => ledgers.reduce((sum, { ledger }) => sum + ledger.acked.size, 0)
  test.comment(`${acked(reporters)} reports and ${acked(writers)} changes of desired acknowledged, ${events} events; the stream was opened ${stream.opened} times and told ${stream.told.repeats} twice, the webhook failed ${webhook.failed} times and got ${webhook.told.repeats} twice`)
  test.ok(acked(reporters) > 10 * devices && acked(writers) > 10 * devices, 'enough to mean something')
  test.equal(await server.stop(), 0)
  test.match(await rebuildCheck(directory), new RegExp(`${devices} twins were made anew from ${events} events: 0 differed\\.`))
})
