/** What the tests of presence share: a service on a real store, with time and the other nodes in the test's hands. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import type { PresenceMembership } from '../../src/presence/boot-watch.js'
import type { PresenceSession } from '../../src/presence/presence-sink.js'
import { PresenceService, type PresenceServiceOptions } from '../../src/presence/presence-service.js'
import { eventLanes, laneOf, type EventLog, type OutEvent } from '../../src/store/event-log.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'

interface Teardown { teardown(undo: () => unknown): unknown }

export function newDirectory (t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-presence-'))
  t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

export async function openStoreIn (t: Teardown, directory = newDirectory(t)): Promise<EmbeddedStore> {
  const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  return store
}

/** The system's clock, moved by the test. */
export class MovedClock implements Clock {
  #aheadMs = 0
  nowUs (): number { return systemClock.nowUs() + this.#aheadMs * 1000 }
  monotonicMs (): number { return systemClock.monotonicMs() + this.#aheadMs }
  move (ms: number): void { this.#aheadMs += ms }
}

/** The nodes as the test says. */
export class ToldMembership implements PresenceMembership {
  answerAgeMs = 0
  readonly states = new Map<string, { name: string, state: string }>()
  list (): { name: string, bootId: string, state: string }[] { return [...this.states].map(([bootId, node]) => ({ bootId, ...node })) }
  set (bootId: string, name: string, state: 'live' | 'gone'): void { this.states.set(bootId, { name, state }) }
}

/** Not opened: the test does that. */
export function serviceOf (options: Partial<PresenceServiceOptions> & Pick<PresenceServiceOptions, 'store'>): PresenceService {
  return new PresenceService({ membership: null, node: '', bootId: 'boot-1', staleAfterS: 900, clock: systemClock, log: silentLog, bootEveryMs: 20, ...options })
}

let sessions = 0

export function sessionOf (tenant: string, device: string, more: Partial<PresenceSession> = {}): PresenceSession {
  return { tenant, device, connection: `c${String(sessions++).padStart(8, '0')}`, keepAliveSeconds: 60, via: '', lastHeardUs: systemClock.nowUs(), ...more }
}

/** Everything in the log about a device, in order. */
export async function eventsOf (log: EventLog, tenant: string, device: string): Promise<OutEvent[]> {
  return (await allEvents(log, [laneOf(tenant, device)])).filter(event => event.tenant === tenant && event.device === device)
}

/** @param fromUs passes over what was told before */
export async function allEvents (log: EventLog, lanes: readonly number[] = Array.from({ length: eventLanes }, (_, lane) => lane), fromUs = 0): Promise<OutEvent[]> {
  const all: OutEvent[] = []
  for (const lane of lanes) {
    const end = await log.endOfEvents(lane)
    for (let after = fromUs === 0 ? '' : log.positionAt(lane, fromUs), more = true; more;) {
      const { events, position } = await log.readEvents(lane, after, 1000)
      all.push(...events.map(({ event }) => event))
      more = events.length > 0 || position < end
      after = position
    }
  }
  return all
}

/** Until it holds; fails the test after ten seconds. */
export async function until (what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!await holds()) {
    if (performance.now() > deadlineMs) throw new Error(`it does not come true: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

/** Nothing waits to be written. */
export async function written (...services: readonly PresenceService[]): Promise<void> {
  await until('everything is written', () => services.every(service => service.stats.pending === 0))
}

export interface Told { readonly connected: boolean, readonly connection: string, readonly reason?: string }

export function dataOf (event: OutEvent): Told { return JSON.parse(event.data) as Told }
