import t from 'tap'
import { bench } from './http-support.js'

const node = { name: 'a', journalId: '00000000000000aa', state: 'live', lastSeenUs: 1_750_000_000_000_000, clockOffsetMs: -12.34567, stampAheadMs: 0, startedAtUs: 1_749_000_000_000_000, self: true }

void t.test('GET /nodes: platform admins see every node and its clock; nobody else does', async t => {
  const b = await bench(t, { nodes: { list: () => [node, { ...node, name: 'b', state: 'gone', clockOffsetMs: null, self: false }] } })
  const { status, json } = await b.call('GET', 'nodes', { key: b.keys.admin })
  t.equal(status, 200)
  t.same(json, {
    nodes: [
      { name: 'a', journal: '00000000000000aa', state: 'live', lastSeen: '2025-06-15T15:06:40.000Z', clockOffsetMs: -12.346, stampAheadMs: 0, startedAt: '2025-06-04T01:20:00.000Z', self: true },
      { name: 'b', journal: '00000000000000aa', state: 'gone', lastSeen: '2025-06-15T15:06:40.000Z', clockOffsetMs: null, stampAheadMs: 0, startedAt: '2025-06-04T01:20:00.000Z', self: false }
    ]
  })
  for (const key of [b.keys.operator, b.keys.device, b.keys.viewer]) t.equal((await b.call('GET', 'nodes', { key })).status, 403)
  t.equal((await b.call('GET', 'nodes')).status, 401)
})

void t.test('GET /nodes: one node that has its store to itself lists none', async t => {
  const b = await bench(t)
  t.same((await b.call('GET', 'nodes', { key: b.keys.admin })).json, { nodes: [] })
})
