/**
 * The MQTT stage, a journal of small segments, the applier and an embedded store as one process, until it is killed (kill.test.ts). The store
 * "is away" now and then. Prints the port.
 *
 *   node kill-server.js <directory> <devices> <seed>
 */
import { mkdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { MqttEdge } from '../../src/edge/mqtt/mqtt-edge.js'
import { Authenticator } from '../../src/gate/authenticate.js'
import { Pressure } from '../../src/gate/pressure.js'
import { appliedStart } from '../../src/inlet/applied-start.js'
import { Applier } from '../../src/inlet/applier.js'
import { DeviceEvents } from '../../src/inlet/device-events.js'
import { InletJournal } from '../../src/inlet/inlet-journal.js'
import { openJournal } from '../../src/journal/journal.js'
import { JournalKeeper } from '../../src/pipeline/journal-keeper.js'
import { readBootId } from '../../src/pipeline/start-cursor.js'
import { openStore } from '../../src/store/open-store.js'
import { FakeRegistry } from '../edge/mqtt-harness.js'
import { seededRandom } from '../journal/journal-support.js'

const [directory, devices, seed] = process.argv.slice(2)
const random = seededRandom(Number(seed))
const tools = { clock: systemClock, log: silentLog }
mkdirSync(join(directory, 'journal'), { recursive: true })
const store = await openStore({ kind: 'embedded', directory: join(directory, 'store') }, { ...tools, writer: true })
const files = await openJournal({ directory: join(directory, 'journal'), ...tools, diskBytesMax: 64 * 1024 * 1024, segmentBytesMax: 64 * 1024 })
const events = new DeviceEvents(store)
const applier = new Applier({
  journal: files,
  cursors: store,
  from: await appliedStart(store, files.journalId, readBootId()),
  handlers: [{
    takes: path => events.takes(path),
    apply: async messages => {
      if (random() < 0.1) throw new TwinfoldError('store_unavailable', 'away')
      const outcomes = await events.apply(messages)
      // Away after it was done: the messages are given again.
      if (random() < 0.1) throw new TwinfoldError('store_unavailable', 'away')
      return outcomes
    }
  }],
  intents: null,
  deadLetters: { add: async letters => { await store.putDeadLetters(letters) } },
  ...tools,
  waitingMax: 200,
  cursorEveryMs: 20
})
const keeper = new JournalKeeper({
  journal: files, cursors: store, packer: { get cursor () { return files.durableEnd } }, applier, flush: async () => { await store.raw.flush() }, ...tools, flushIntervalMs: 50, keepMs: 0, flushBytes: 100_000
})
const registry = new FakeRegistry()
for (let i = 0; i < Number(devices); i++) registry.device('acme', `d${i}`)
const edge = new MqttEdge({
  host: '127.0.0.1', port: 0, webSocket: false, journal: new InletJournal(files, applier), registry: registry.store, authenticator: new Authenticator(registry.store, { leaseMs: 60_000, cachedMax: 100 }), pressure: new Pressure(), persistence: undefined, ...tools, connectionsMax: 100
})
applier.open()
keeper.open()
await edge.open()
process.on('SIGTERM', () => {
  void (async () => {
    await edge.close()
    const drained = await applier.drain(20_000)
    await applier.close()
    await keeper.close()
    await keeper.flushNow()
    await files.close()
    await store.close()
    process.exit(drained ? 0 : 1)
  })()
})
writeSync(1, `${edge.port}\n`)
