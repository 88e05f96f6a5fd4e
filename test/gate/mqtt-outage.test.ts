/** MQTT while the registry is away: known devices connect and are acknowledged, strangers are told that the server cannot say. */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { Authenticator } from '../../src/gate/authenticate.js'
import { connectPacket, FakeRegistry, HandClock, publish, startStage } from '../edge/mqtt-harness.js'

class AwayRegistry extends FakeRegistry {
  away = false

  async #answer<T> (answer: Promise<T>): Promise<T> {
    if (this.away) throw new TwinfoldError('store_unavailable', 'Cassandra does not answer')
    return await answer
  }

  override async getCredential (hash: string) { return await this.#answer(super.getCredential(hash)) }
  override async getTenant (id: string) { return await this.#answer(super.getTenant(id)) }
  override async getDevice (tenant: string, id: string) { return await this.#answer(super.getDevice(tenant, id)) }
}

t.test('a known device reconnects and is acknowledged, a stranger gets CONNACK 3 and may try again', async t => {
  const clock = new HandClock()
  const registry = new AwayRegistry()
  const authenticator = new Authenticator(registry.store, { leaseMs: 10_000, cachedMax: 100, clock })
  const stage = await startStage(t, { registry: registry.store, authenticator, clock })
  const device = registry.device('acme', 'd1')
  const stranger = registry.device('acme', 'd2')
  const application = registry.credential('application', 'acme')
  const before = await stage.client({ secret: device, clientId: 'a' })
  const fleet = await stage.client({ secret: application, clientId: 'app' })
  fleet.send(publish('devices/d1/telemetry', '{"t":1}', { qos: 1, id: 1 }))
  t.equal((await fleet.next())[0] >> 4, 4)

  registry.away = true
  clock.ms += 5 * 60_000
  before.send(publish('telemetry', '{"t":2}', { qos: 1, id: 2 }))
  t.equal((await before.next())[0] >> 4, 4, 'connected')
  fleet.send(publish('devices/d1/telemetry', '{"t":3}', { qos: 1, id: 3 }))
  t.equal((await fleet.next())[0] >> 4, 4, 'of a device that it named before, past the lease')
  const again = await stage.client({ secret: device, clientId: 'b' })
  again.send(publish('telemetry', '{"t":4}', { qos: 1, id: 4 }))
  t.equal((await again.next())[0] >> 4, 4, 'reconnected')
  for (const secret of [stranger, 'twd_' + 'x'.repeat(43)]) {
    const socket = await stage.socket()
    socket.send(connectPacket({ secret }))
    t.same(await socket.next(), Buffer.from([0x20, 2, 0, 3]), 'not "bad credentials"')
    await socket.untilClosed()
  }
  registry.away = false
  t.ok(await stage.client({ secret: stranger }))
})

t.test('a device that is created after a refused message waits two seconds, not a lease', async t => {
  const clock = new HandClock()
  const registry = new AwayRegistry()
  const authenticator = new Authenticator(registry.store, { leaseMs: 10_000, cachedMax: 100, clock })
  const stage = await startStage(t, { registry: registry.store, authenticator, clock })
  const application = registry.credential('application', 'acme')
  const fleet = await stage.client({ secret: application, clientId: 'app' })
  const send = async (id: number): Promise<void> => {
    fleet.send(publish('devices/late/telemetry', '{"t":1}', { qos: 1, id }))
    await fleet.next()
  }
  await send(1)
  t.equal(stage.refused.length, 1)
  registry.device('acme', 'late')
  clock.ms += 2001
  for (let second = 0; second < 2; second++) stage.edge.advance()
  await send(2)
  t.equal(stage.refused.length, 1, 'taken')
  t.equal(stage.journal.messages().length, 1)
})
