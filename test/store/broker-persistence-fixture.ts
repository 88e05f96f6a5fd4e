/** What the tests of the broker persistence share: directories, a clock that stands still, random numbers from a seed. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openBrokerPersistence, type BrokerPersistence, type BrokerPersistenceOptions } from '../../src/store/embedded/broker/persistence.js'
import type { BrokerPacket, QueuedPacket } from '../../src/store/broker/types.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'

export class TestClock implements Clock {
  us = 1_700_000_000_000_000
  nowUs (): number { return this.us }
  monotonicMs (): number { return this.us / 1000 }
  passMs (ms: number): void { this.us += ms * 1000 }
}

/** Whole numbers below a bound, decided by the seed. */
export function randomFrom (seed: number): (below: number) => number {
  const random = seededRandom(seed)
  return below => Math.floor(random() * below)
}

export function temporaryDirectory (t: { teardown: (run: () => void) => void }): string {
  const directory = mkdtempSync(join(tmpdir(), 'broker-persistence-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export async function open (directory: string, options: Partial<BrokerPersistenceOptions> = {}): Promise<BrokerPersistence> {
  const persistence = await openBrokerPersistence({ directory, clock: new TestClock(), log: silentLog, sweepEveryMs: 0, ...options })
  await persistence.setup({ id: 'broker', counter: 0 })
  return persistence
}

let counter = 0
export function message (topic: string, payload: string | Buffer, qos = 1, retain = false): BrokerPacket {
  return { cmd: 'publish', topic, payload: Buffer.from(payload), qos, retain, dup: false, brokerId: 'broker', brokerCounter: ++counter }
}

export async function all<T> (stream: AsyncIterable<unknown>): Promise<T[]> {
  const items: T[] = []
  for await (const item of stream) items.push(item as T)
  return items
}

export async function queueOf (persistence: BrokerPersistence, id: string): Promise<BrokerPacket[]> {
  return await all<BrokerPacket>(persistence.outgoingStream({ id }))
}

export const payloads = (packets: readonly QueuedPacket[]): string[] => packets.map((packet) => String((packet as BrokerPacket).payload))
