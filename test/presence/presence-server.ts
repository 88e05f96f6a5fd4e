/**
 * A process that has devices connect and drop at random, on an embedded store or as a node of a cluster, until it is killed: what the tests
 * of presence kill. argv: JSON of `ServerTask`. It prints `ready`, and in a cluster answers nothing else.
 */
import { systemClock, StampClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { NodeMembership } from '../../src/nodes/node-membership.js'
import { PresenceService } from '../../src/presence/presence-service.js'
import { openNodes } from '../../src/store/open-nodes.js'
import { openStore } from '../../src/store/open-store.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { sessionOf } from './support.js'

export interface ServerTask {
  readonly spec: StoreSpec
  readonly node: string
  readonly bootId: string
  readonly seed: number
  readonly devices: number
  /** false: every device connects once and stays. */
  readonly flaps: boolean
}

const { spec, node, bootId, seed, devices, flaps } = JSON.parse(process.argv[2]) as ServerTask
const random = seededRandom(seed)
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
let membership: NodeMembership | null = null
if (spec.kind === 'cluster') {
  const stamps = new StampClock(systemClock, 0)
  const journal = { journalId: bootId.padStart(16, '0').slice(0, 16), get stampLast () { return stamps.last }, observeStamp: (stamp: number) => { stamps.observe(stamp) } }
  membership = new NodeMembership({ name: node, bootId, journal, store: openNodes(spec.redis, { clock: systemClock, log: silentLog }).nodes, clock: systemClock, log: silentLog })
  await membership.open()
}
const service = new PresenceService({ store, membership, node: membership === null ? '' : node, bootId, staleAfterS: 900, clock: systemClock, log: silentLog })
await service.open()
const open = new Map<string, ReturnType<typeof sessionOf>>()
const names = Array.from({ length: devices }, (_, i) => `d${i}`)
for (const device of names) {
  const session = sessionOf('t', device, { connection: `${bootId}-${device}-0` })
  open.set(device, session)
  service.opened(session)
}
if (!flaps) while (service.stats.pending > 0) await new Promise(resolve => { setTimeout(resolve, 5) })
process.stdout.write('ready\n')
for (let i = 1; flaps; i++) {
  const device = names[Math.floor(random() * devices)]
  const session = open.get(device)
  if (session !== undefined && random() < 0.7) {
    service.closed(session, 'closed', 0)
    open.delete(device)
  } else {
    const next = sessionOf('t', device, { connection: `${bootId}-${device}-${String(i).padStart(8, '0')}` })
    service.opened(next)
    if (session !== undefined) service.closed(session, 'taken_over', 0)
    open.set(device, next)
  }
  if (i % 10 === 0) await new Promise(resolve => { setTimeout(resolve, 1) })
}
setInterval(() => {}, 1000)
