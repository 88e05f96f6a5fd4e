/** What entities and events in the embedded store keep over kills, restarts, trims and damage. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { eventLanes, eventsKeptUs, laneOf, type LoggedEvent } from '../../src/store/event-log.js'
import { decodeEvents, encodeEvents } from '../../src/store/out-event-codec.js'
import { commitOf, fill, keyOf } from './entity-store.contract.js'
import { outEventOf, readAll } from './event-log.contract.js'
import { gather, newSeed, randomFrom } from './store-fixtures.js'

const child = fileURLToPath(new URL('./embedded-entities-child.js', import.meta.url))
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

function newDirectory (test: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-entities-'))
  test.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

async function openIn (directory: string, clock: Clock = systemClock, writer = true): Promise<EmbeddedStore> {
  return await openEmbeddedStore({ directory, clock, log: silentLog, writer })
}

void t.test('a commit is there whole after SIGKILL, or not at all, and never gone when it was acknowledged', async t => {
  const directory = newDirectory(t)
  const seed = newSeed()
  const random = randomFrom(seed)
  const acknowledged = new Map<string, number>()
  for (let round = 0; round < 3; round++) {
    const process_ = spawn(process.execPath, [child, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => { process_.kill('SIGKILL') })
    const bytes = 5 + Math.floor(random() * 8000)
    let text = ''
    await new Promise<void>(resolve => {
      process_.stdout.on('data', (data: Buffer) => {
        text += data.toString()
        if (text.length >= bytes) process_.kill('SIGKILL')
      })
      process_.once('close', () => { resolve() })
    })
    for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n').slice(1)) {
      const [device, version] = line.split(' ')
      acknowledged.set(device, Number(version))
    }
    const store = await openIn(directory)
    const told = new Map<string, number[]>()
    for (let lane = 0; lane < eventLanes; lane++) {
      for (const { event } of (await readAll(store, lane, '', 500)).events) told.set(event.device, [...told.get(event.device) ?? [], event.sequence?.number as number])
    }
    for await (const { key, entity } of store.scanEntities('twin', 'killed')) {
      const { version, state } = entity
      const note = `${key.device} round ${round}, seed ${seed}`
      t.ok(version >= (acknowledged.get(key.device) ?? 0), note)
      t.equal((JSON.parse(state as string) as { at: number }).at, version, note)
      t.strictSame((await store.readEntityEvents(key, 0, 1e9, 1e6)).map(event => event.version), numbers(1, version), note)
      t.strictSame((await store.readEntityItems(key, '', '', 1e6)).map(({ id }) => Number(id)).sort((a, b) => a - b), numbers(1, version), note)
      t.strictSame(told.get(key.device), numbers(1, version), note)
    }
    await store.close()
  }
  t.ok(acknowledged.size > 0)
})

void t.test('commits that were asked for at once for one entity are judged one after the other', async t => {
  const store = await openIn(newDirectory(t))
  t.teardown(async () => { await store.close() })
  const key = keyOf('x', 'd')
  const outcomes = await Promise.all([0, 1, 1, 0, 2, 3, 3].map(async expected => await store.commitEntities([commitOf(key, expected)], false)))
  t.strictSame(outcomes.flat(), [true, true, false, false, true, true, false])
  t.strictSame((await store.readEntityEvents(key, 0, 9, 9)).map(({ version }) => version), [1, 2, 3, 4])
  const [bad, good] = await Promise.allSettled([store.commitEntities([commitOf(keyOf('x', 'no\0name'), 0)], false), store.commitEntities([commitOf(key, 4)], false)])
  t.match([bad.status, good.status], ['rejected', 'fulfilled'], 'one that cannot be written takes no other along')
})

void t.test('nothing is made by reading, versions and positions go on after a restart', async t => {
  const directory = newDirectory(t)
  let store = await openIn(directory)
  t.strictSame(await gather(store.scanEntities('twin', null)), [])
  t.strictSame(await store.readEvents(3, '', 10), { events: [], position: '' })
  t.notOk(readdirSync(directory).includes('entities'))
  let position = await store.endOfEvents(0)
  const lane = laneOf('x', 'd')
  for (let round = 0; round < 3; round++) {
    t.strictSame(await store.commitEntities([commitOf(keyOf('x', 'd'), round, { outbox: [outEventOf('x', 'd', round)] })], true), [true])
    t.strictSame(await store.commitEntities([commitOf(keyOf('x', 'd'), round)], true), [false])
    await store.close()
    store = await openIn(directory)
    const read = await store.readEvents(lane, position, 10)
    t.strictSame(read.events.map(({ event }) => event.sequence?.number), [round])
    position = read.position
  }
  const beside = await openIn(directory, systemClock, false)
  t.match(await beside.getEntity(keyOf('x', 'd')), { version: 3 })
  t.equal((await beside.readEvents(lane, '', 10)).events.length, 3)
  const writes: Promise<unknown>[] = [beside.commitEntities([commitOf(keyOf('x', 'd'), 3)], true), beside.appendEvents([outEventOf('x', 'd', 1)]), beside.trimEvents(1), beside.dropEntityHistory(keyOf('x', 'd'), 1)]
  for (const write of writes) await t.rejects(write, { code: 'internal' })
  await beside.close()
  await store.close()
})

void t.test('old events are trimmed, and no position is given twice, though the clock goes back', async t => {
  const directory = newDirectory(t)
  let nowUs = 1.7e15
  const clock: Clock = { nowUs: () => nowUs, monotonicMs: () => systemClock.monotonicMs() }
  let store = await openIn(directory, clock)
  const devices = Array.from({ length: 40 }, (_, i) => `d${i}`)
  await store.appendEvents(devices.map(device => outEventOf('x', device, 1)))
  nowUs += eventsKeptUs / 2
  await store.appendEvents(devices.map(device => outEventOf('x', device, 2)))
  await fill(store, keyOf('x', 'd'), 3, 1)
  nowUs += eventsKeptUs / 2 + 1e6
  await store.trimEvents(nowUs)
  const all = async (after: string): Promise<LoggedEvent[]> => (await Promise.all(Array.from({ length: eventLanes }, async (_, lane) => (await readAll(store, lane, after)).events))).flat()
  t.strictSame((await all('')).map(({ event }) => event.sequence?.number), devices.map(() => 2))
  nowUs += eventsKeptUs
  await store.trimEvents(nowUs)
  t.strictSame(await all(''), [])
  t.match(await store.getEntity(keyOf('x', 'd')), { version: 3 }, 'entities stay')
  const end = await store.endOfEvents(0)
  await store.close()
  nowUs -= 3 * eventsKeptUs
  store = await openIn(directory, clock)
  t.teardown(async () => { await store.close() })
  await store.appendEvents(devices.map(device => outEventOf('x', device, 3)))
  t.strictSame((await all(end)).map(({ event }) => event.sequence?.number), devices.map(() => 3))
})

void t.test('events as bytes: all of them come back, and damage is named', async t => {
  const events = [outEventOf('x', 'd', 1), outEventOf('x', 'ü', 2, { sequence: undefined, data: '{"\u{1F600}":1}' })]
  const bytes = encodeEvents(events)
  t.strictSame(decodeEvents(bytes), JSON.parse(JSON.stringify(events)))
  t.strictSame(decodeEvents(encodeEvents([])), [])
  for (const cut of [bytes.length - 1, 3, 6]) t.throws(() => decodeEvents(bytes.subarray(0, cut)), { code: 'corrupt_data' })
  t.throws(() => decodeEvents(Buffer.concat([Buffer.from([2]), bytes.subarray(1)])), { code: 'format_newer' })
})
