import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { eventLanes } from '../../src/store/event-log.js'
import { openStore } from '../../src/store/open-store.js'
import { connectPacket, FakeRegistry, publish, RawClient } from '../edge/mqtt-harness.js'
import { chooseSeed, seededRandom, temporaryDirectory } from '../journal/journal-support.js'

const program = fileURLToPath(new URL('./kill-server.js', import.meta.url))
const devices = 4
const inFlight = 20

interface Server { readonly process: ChildProcess, readonly port: number }

async function start (directory: string, seed: number): Promise<Server> {
  const process = spawn(globalThis.process.execPath, ['--enable-source-maps', program, directory, String(devices), String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [output] = await Promise.race([once(process.stdout, 'data'), once(process, 'exit').then(() => { throw new Error('the server ended by itself') })]) as [Buffer]
  return { process, port: Number(output.toString()) }
}

/** Reports events with ascending numbers, some in flight at a time; sends again what was not acknowledged before the connection ended. */
class Device {
  readonly name: string
  readonly #secret: string
  acked = 0
  sent = 0
  #client: RawClient | null = null

  constructor (index: number) {
    this.name = `d${index}`
    this.#secret = new FakeRegistry().device('acme', this.name)
  }

  async run (port: number, until: () => boolean): Promise<void> {
    const client = this.#client = new RawClient(connect(port, '127.0.0.1'))
    try {
      await client.connected
      client.send(connectPacket({ secret: this.#secret, clientId: this.name }))
      await client.next()
      let next = this.acked
      while (!until() || next > this.acked) {
        while (!until() && next < this.acked + inFlight) {
          client.send(publish('events/tick', `n${next} ${'x'.repeat(next % 300)}`, { qos: 1, id: next % 60_000 + 1 }))
          next++
          if (next > this.sent) this.sent = next
        }
        if ((await client.next())[0] === 0x40) this.acked++
      }
    } catch { /* The server died: what is not acknowledged is sent again on the next connection. */ } finally { client.end() }
  }

  drop (): void { this.#client?.end() }
}

/** Resolves when so many more of all devices are acknowledged. */
async function acknowledged (fleet: readonly Device[], more: number): Promise<void> {
  const acked = (): number => fleet.reduce((sum, device) => sum + device.acked, 0)
  for (const target = acked() + more; acked() < target;) await delay(2)
}

void t.test('what was acknowledged is applied after SIGKILL, in order, each message once, and segments wait for it', { timeout: 60_000 }, async t => {
  const seed = chooseSeed()
  const random = seededRandom(seed)
  const directory = temporaryDirectory(t)
  const fleet = Array.from({ length: devices }, (_, i) => new Device(i))
  let server = await start(directory, seed)
  t.teardown(() => { server.process.kill('SIGKILL') })
  for (let round = 0; round < 4; round++) {
    let over = false
    const running = fleet.map(async device => { await device.run(server.port, () => over) })
    // However fast the machine is: at a random moment after enough was acknowledged.
    await acknowledged(fleet, 200 + random() * 2000)
    fleet[round % devices].drop()
    await delay(random() * 50)
    server.process.kill('SIGKILL')
    over = true
    await Promise.all(running)
    server = await start(directory, seed + round + 1)
  }
  let over = false
  const running = fleet.map(async device => { await device.run(server.port, () => over) })
  await acknowledged(fleet, 200)
  over = true
  await Promise.all(running)
  server.process.kill('SIGTERM')
  const [code] = await once(server.process, 'exit') as [number]
  t.equal(code, 0, `everything was applied before the end (seed ${seed})`)
  t.ok(readdirSync(join(directory, 'journal')).length < 40, 'segments were released meanwhile')

  const store = await openStore({ kind: 'embedded', directory: join(directory, 'store') }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  const told = new Map<string, Map<string, number>>()
  for (let lane = 0; lane < eventLanes; lane++) {
    for (let after = ''; ;) {
      const { events, position } = await store.readEvents(lane, after, 1000)
      for (const { event } of events) {
        const { payload } = JSON.parse(event.data) as { payload: string }
        const number = Number(Buffer.from(payload, 'base64').toString().slice(1).split(' ')[0])
        let ofDevice = told.get(event.device)
        if (ofDevice === undefined) told.set(event.device, ofDevice = new Map())
        // A repeat after a crash has the same id.
        if (!ofDevice.has(event.id)) ofDevice.set(event.id, number)
      }
      if (events.length === 0) break
      after = position
    }
  }
  for (const device of fleet) {
    const numbers = [...told.get(device.name)?.values() ?? []]
    const found = new Set(numbers)
    const missing = Array.from({ length: device.acked }, (_, i) => i).filter(number => !found.has(number))
    t.same(missing.slice(0, 5), [], `${device.name}: all ${device.acked} that were acknowledged are there (seed ${seed})`)
    t.ok(numbers.every(number => number < device.sent), 'nothing is there that was never sent')
    // Sent again after a crash, a run begins again at what was not acknowledged; within a run numbers follow one another.
    t.ok(numbers.every((number, i) => i === 0 || number === numbers[i - 1] + 1 || number <= numbers[i - 1]), `${device.name}: in order (seed ${seed})`)
    t.ok(numbers.length - found.size <= 6 * inFlight, 'only what was in flight is there twice')
  }
  t.same((await store.listDeadLetters('acme', {}, null, 10)).items, [])
})
