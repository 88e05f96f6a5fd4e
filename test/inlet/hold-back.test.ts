/** What the applier holds back: segments of the journal, and senders. And what it leaves alone: the packer. */
import { readdirSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { Pressure } from '../../src/gate/pressure.js'
import { appliedStart } from '../../src/inlet/applied-start.js'
import { JournalKeeper } from '../../src/pipeline/journal-keeper.js'
import { PressureControl } from '../../src/pipeline/pressure-control.js'
import { SliceDecoder } from '../../src/pipeline/slice-decoder.js'
import type { CursorStore, SettingsStore } from '../../src/store/small-stores.js'
import { FakeRegistry } from '../edge/mqtt-harness.js'
import { mib, temporaryDirectory } from '../journal/journal-support.js'
import { MemoryCursors, RecordingHandler, startWorld, telemetry } from './inlet-support.js'

void t.test('a segment is released when it is packed and applied, and not before', async t => {
  const directory = temporaryDirectory(t)
  const handler = new RecordingHandler('events/')
  const cursors = new MemoryCursors()
  const world = await startWorld(directory, [handler], { cursors, segmentBytesMax: mib / 8 })
  t.teardown(async () => { await world.close() })
  world.applier.open()
  const segments = (): number => readdirSync(directory).filter(name => name.endsWith('.segment')).length
  const packer = { get cursor (): number { return world.files.durableEnd } }
  const keeper = new JournalKeeper({ journal: world.files, cursors, packer, applier: world.applier, flush: async () => {}, clock: systemClock, log: silentLog, flushIntervalMs: 0, keepMs: 0, flushBytes: 1 })
  handler.away = true
  for (let i = 0; i < 20; i++) {
    await world.say('d1', 'events/x', String(i))
    await telemetry(world.journal, 60_000)
  }
  const held = segments()
  t.ok(held > 5)
  keeper.open()
  t.teardown(async () => { await keeper.close() })
  while (keeper.stats.flushes === 0) await delay(5)
  await delay(600)
  t.equal(segments(), held, 'nothing is released before the first message is applied')
  handler.away = false
  t.ok(await world.applier.drain(5000))
  while (segments() > 2) await delay(5)
  t.ok((cursors.positions.get('applied-durably') ?? 0) > 0)
  t.ok((cursors.positions.get('packed-durably') ?? 0) > 0)
})

void t.test('senders are slowed while the applier is behind', t => {
  const pressure = new Pressure()
  const applier = { behind: false }
  const control = new PressureControl({ journal: { state: 'ok' }, packer: { backlogBytes: 0, bytesPerSecond: 1e6 }, applier, pressure, lagMsMax: 1000, backlogBytesMin: 1000, intervalMs: 10 })
  const levels = [false, true, true, false].map(behind => {
    applier.behind = behind
    control.evaluate()
    return pressure.level
  })
  t.same(levels, ['open', 'slow', 'slow', 'open'])
  t.equal(control.stats.slowed, 1)
  t.end()
})

void t.test('the packer passes over what is for the applier', async t => {
  const world = await startWorld(temporaryDirectory(t), [])
  t.teardown(async () => { await world.close() })
  await world.say('d1', 'twin/reported', '{"temperature":1}')
  await telemetry(world.journal, 3)
  await world.say('d1', 'events/x', 'y')
  const mark = await world.files.mark()
  if (mark === null) throw new Error('no mark')
  const registry = new FakeRegistry()
  registry.device('acme', 'pump')
  const decoder = new SliceDecoder(registry.store, { leaseMs: 1000 })
  const decoded = await decoder.decode({ journalId: world.files.journalId, mark, segments: world.files.segmentsFor(mark.from, mark.to) })
  t.match(decoded, { records: 1, messages: 1, damaged: [] })
  t.same(decoded.letters.map(({ reason, payload }) => `${reason} ${Buffer.from(payload).toString()}`), ['not_a_reading 111'])
})

void t.test('applying resumes at the fast cursor after the process died, at the durable one after the machine did', async t => {
  const cursors = new MemoryCursors()
  const settings = new Map<string, string>()
  const store = Object.assign(cursors as CursorStore, {
    getSetting: (name: string) => Promise.resolve(settings.get(name) ?? null),
    putSetting: (name: string, value: string) => { settings.set(name, value); return Promise.resolve() }
  } satisfies SettingsStore)
  t.equal(await appliedStart(store, 'j', 'boot-1'), 0)
  cursors.positions.set('applied', 500)
  cursors.positions.set('applied-durably', 300)
  t.equal(await appliedStart(store, 'j', 'boot-1'), 500)
  t.equal(await appliedStart(store, 'j', 'boot-2'), 300)
  t.equal(await appliedStart(store, 'j', 'boot-2'), 300, 'what the boot before had written is forgotten')
  t.equal(await appliedStart(store, 'j', null), 300)
})
