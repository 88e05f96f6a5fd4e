/** What every implementation of the port of presence keeps. */
import type { Test } from 'tap'
import { presenceSlotsMax, type Connected, type PresenceStore, type SlotEnd } from '../../src/store/presence-store.js'
import { gather, newTenantId } from './store-fixtures.js'

let boots = 0

export function newBoot (): string { return `boot-${process.pid}-${String(boots++).padStart(3, '0')}` }

function connectedOf (tenant: string, device: string, more: Partial<Connected> = {}): Connected {
  return { tenant, device, connection: 'c1', node: 'a', bootId: 'boot-a', at: 1_000_000, via: '', keepAliveSeconds: 60, ...more }
}

function endOf ({ tenant, device, connection, node, bootId, at }: Connected, more: Partial<SlotEnd> = {}): SlotEnd {
  return { tenant, device, connection, node, bootId, at: at + 10, reason: 'client', ...more }
}

function withoutSlot ({ node: _node, bootId: _bootId, ...end }: SlotEnd): object { return end }

export function presenceContract (t: Test, open: () => Promise<PresenceStore>): void {
  void t.test('presence: a slot a node, those that connected last first, in the order asked', async t => {
    const store = await open()
    const tenant = newTenantId()
    const first = connectedOf(tenant, 'd')
    const second = connectedOf(tenant, 'd', { node: 'b', bootId: 'boot-b', connection: 'c2', at: 2_000_000, via: 'gateway' })
    await store.putConnected([second, connectedOf(tenant, 'e')])
    await store.putConnected([first])
    const rows = await store.getPresence(tenant, ['none', 'd', 'e', 'd'])
    t.strictSame(rows[0], { tenant, device: 'none', slots: [], activityAt: 0 })
    const both = { tenant, device: 'd', slots: [{ connected: second, disconnected: null }, { connected: first, disconnected: null }], activityAt: 0 }
    t.strictSame([rows[1], rows[3]], [both, both])
    t.equal(rows[2].slots.length, 1)
    t.strictSame((await store.getPresence(`${tenant}x`, ['d']))[0].slots, [], 'another tenant')
    t.strictSame(await store.getPresence(tenant, []), [])
  })

  void t.test('presence: a connection has ended when it is named, by its node or another; one that came after has not', async t => {
    const store = await open()
    const tenant = newTenantId()
    const one = connectedOf(tenant, 'd')
    const two = { ...one, connection: 'c2', at: 3_000_000 }
    const endOne = endOf(one)
    await store.putConnected([one])
    await store.putDisconnected([endOne])
    t.strictSame((await store.getPresence(tenant, ['d']))[0].slots, [{ connected: one, disconnected: withoutSlot(endOne) }])
    await store.putConnected([two])
    t.strictSame((await store.getPresence(tenant, ['d']))[0].slots, [{ connected: two, disconnected: null }])
    await store.putLost([endOf(one, { reason: 'node_lost' })])
    t.strictSame((await store.getPresence(tenant, ['d']))[0].slots, [{ connected: two, disconnected: null }], 'late word of the one before')
    const lost = endOf(two, { reason: 'node_lost' })
    await store.putLost([lost])
    t.strictSame((await store.getPresence(tenant, ['d']))[0].slots, [{ connected: two, disconnected: withoutSlot(lost) }])
    const other = connectedOf(tenant, 'd', { node: 'b', connection: 'c9', at: 1 })
    await store.putDisconnected([endOf(other)])
    t.equal((await store.getPresence(tenant, ['d']))[0].slots.length, 1, 'an end without a begin shows nothing')
  })

  void t.test('presence: what a boot has open is found, whatever the number, and no more after its end', async t => {
    const store = await open()
    const tenant = newTenantId()
    const [bootId, other] = [newBoot(), newBoot()]
    const rows = Array.from({ length: 3000 }, (_, i) => connectedOf(tenant, `d${i}`, { bootId, connection: `c${i}`, via: i % 2 === 0 ? '' : 'g'.repeat(128) }))
    await store.putConnected([...rows, connectedOf(tenant, 'x', { bootId: other, node: 'b' })])
    await store.putConnected([{ ...rows[0], connection: 'c0a', at: 4_000_000 }, { ...rows[0], connection: 'c0b', at: 5_000_000 }])
    await store.dropConnections([endOf(rows[0])])
    await store.putDisconnected(rows.slice(1000, 2000).map(row => endOf(row)))
    await store.putLost(rows.slice(2000).map(row => endOf(row, { reason: 'node_lost' })))
    const found = (await gather(store.connectionsOf(bootId)))
      .sort((a, b) => Number(a.device.slice(1)) - Number(b.device.slice(1)))
    t.strictSame(found, [{ ...rows[0], connection: 'c0a', at: 4_000_000 }, { ...rows[0], connection: 'c0b', at: 5_000_000 }, ...rows.slice(1, 1000)])
    t.equal((await gather(store.connectionsOf(other))).length, 1)
    t.strictSame(await gather(store.connectionsOf(newBoot())), [])
    const states = await store.getPresence(tenant, rows.map(({ device }) => device))
    t.equal(states[0].slots[0].connected.connection, 'c0b', 'the last given stands')
    t.equal(states.filter(({ slots: [slot] }) => slot.disconnected === null).length, 1000)
  })

  void t.test('presence: boots stay until they are deleted; one that says it lives does not hide that it was swept', async t => {
    const store = await open()
    const [one, two] = [newBoot(), newBoot()]
    const own = async (): Promise<object[]> => (await store.presenceBoots()).filter(({ bootId }) => bootId === one || bootId === two).sort((a, b) => a.bootId < b.bootId ? -1 : 1)
    await store.putPresenceBoot({ bootId: one, node: 'a', aliveAt: 5, swept: 'no' })
    await store.putPresenceBoot({ bootId: two, node: '', aliveAt: 6, swept: 'no' })
    await store.putPresenceSwept(one, 'begun')
    await store.putPresenceSwept(one, 'yes')
    await store.putPresenceBoot({ bootId: one, node: 'a', aliveAt: 7 })
    t.strictSame(await own(), [{ bootId: one, node: 'a', aliveAt: 7, swept: 'yes' }, { bootId: two, node: '', aliveAt: 6, swept: 'no' }])
    await store.deletePresenceBoot(one)
    t.strictSame(await own(), [{ bootId: two, node: '', aliveAt: 6, swept: 'no' }])
    await store.deletePresenceBoot(two)
  })

  void t.test('presence: the latest activity of all nodes is read, with and without a connection', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.putActivity('a', [{ tenant, device: 'd', at: 100 }, { tenant, device: 'e', at: 7 }])
    await store.putActivity('b', [{ tenant, device: 'd', at: 50 }])
    await store.putActivity('', [{ tenant, device: 'd', at: 60 }])
    await store.putActivity('a', [{ tenant, device: 'e', at: 8 }])
    t.strictSame(await store.getPresence(tenant, ['d', 'e']), [{ tenant, device: 'd', slots: [], activityAt: 100 }, { tenant, device: 'e', slots: [], activityAt: 8 }])
    const connected = connectedOf(tenant, 'd')
    await store.putConnected([connected])
    t.strictSame(await store.getPresence(tenant, ['d']), [{ tenant, device: 'd', slots: [{ connected, disconnected: null }], activityAt: 100 }])
  })

  void t.test('presence: nothing is left of a device that was deleted', async t => {
    const store = await open()
    const tenant = newTenantId()
    const bootId = newBoot()
    await store.putConnected([connectedOf(tenant, 'd', { bootId }), connectedOf(tenant, 'd', { bootId, connection: 'c2' }), connectedOf(tenant, 'd2', { bootId })])
    await store.putActivity('b', [{ tenant, device: 'd', at: 100 }])
    await store.deletePresence(tenant, 'd')
    t.strictSame(await store.getPresence(tenant, ['d']), [{ tenant, device: 'd', slots: [], activityAt: 0 }])
    t.strictSame((await gather(store.connectionsOf(bootId))).map(({ device }) => device), ['d2'])
    await store.deletePresence(tenant, 'd')
  })

  void t.test('presence: slots of nodes whose names never come back are bounded', async t => {
    const store = await open()
    const tenant = newTenantId()
    for (let i = 0; i < presenceSlotsMax + 5; i++) {
      const connected = connectedOf(tenant, 'd', { node: `n${i}`, connection: `c${i}`, at: i + 1 })
      await store.putConnected([connected])
      await store.putDisconnected([endOf(connected)])
    }
    const [row] = await store.getPresence(tenant, ['d'])
    t.strictSame(row.slots.map(({ connected }) => connected.at), Array.from({ length: presenceSlotsMax }, (_, i) => presenceSlotsMax + 5 - i))
  })
}
