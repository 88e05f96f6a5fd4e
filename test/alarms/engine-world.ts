/** An alarm engine on a real store, whose calls may be made to fail, and which may die at any of them. */
import type { Clock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import type { Value } from '../../src/core/reading.js'
import { sideOf } from '../../src/core/threshold.js'
import { AlarmEngine, type AlarmEngineOptions } from '../../src/alarms/alarm-engine.js'
import type { Edge } from '../../src/alarms/alarm-machine.js'
import { RuleService } from '../../src/alarms/rule-service.js'
import { laneOf, type OutEvent } from '../../src/store/event-log.js'
import type { Store } from '../../src/store/store.js'
import type { AlarmRule, RuleEdges } from '../../workers/watch-protocol.js'
import { cut } from './naive-alarms.js'

export class ManualClock implements Clock {
  us = 1_750_000_000_000_000
  nowUs (): number { return this.us }
  monotonicMs (): number { return this.us / 1000 }
}

/** What happens at a call of the store: nothing, it is not done, or it is done and not answered. */
export type Fault = 'none' | 'before' | 'after'

export class FaultyStore {
  faults: Fault[] = []
  readonly store: Store

  constructor (store: Store) {
    const call = async <T>(action: () => Promise<T>): Promise<T> => {
      const fault = this.faults.shift() ?? 'none'
      if (fault === 'before') throw new TwinfoldError('store_unavailable', 'a fault of the test')
      const result = await action()
      if (fault === 'after') throw new TwinfoldError('store_unavailable', 'a fault of the test')
      return result
    }
    const faulty = new Set(['putDocument', 'getDocument', 'deleteDocument', 'listDocuments', 'appendEvents'])
    this.store = new Proxy(store, {
      get (target, name) {
        const member: unknown = Reflect.get(target, name)
        if (typeof member !== 'function') return member
        const bound = member.bind(target) as (...parameters: unknown[]) => Promise<unknown>
        return faulty.has(String(name)) ? async (...parameters: unknown[]) => await call(async () => await bound(...parameters)) : bound
      }
    })
  }
}

export function newEngine (store: Store, clock: Clock, more: Partial<AlarmEngineOptions> = {}): { engine: AlarmEngine, rules: RuleService } {
  const rules = new RuleService({ documents: store, clock, leaseMs: 0 })
  const engine = new AlarmEngine({ documents: store, events: store, registry: store, rules, clock, log: silentLog, node: 'node-a', shared: false, tickMs: 3_600_000, startGraceMs: 0, ...more })
  return { engine, rules }
}

export async function newDevices (store: Store, tenant: string, devices: readonly string[], more: { type?: string, tags?: Readonly<Record<string, string>> } = {}): Promise<void> {
  await store.createTenant({ id: tenant, name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
  for (const id of devices) await store.createDevice({ tenant, id, type: '', name: '', gateway: false, gatewayId: null, createdAt: 0, ...more })
}

/** What a packer would tell of a slice. */
export function sliceEdges (tenant: string, rule: AlarmRule, points: ReadonlyMap<string, readonly { readonly ts: number, readonly value: Value }[]>): RuleEdges {
  const columns = { devices: [] as string[], starts: [] as number[], ts: [] as number[], sides: [] as number[], values: [] as Value[] }
  for (const [device, given] of points) {
    columns.devices.push(device)
    columns.starts.push(columns.ts.length)
    if (rule.condition === null) continue
    const { condition } = rule
    const edges = given.flatMap(({ ts, value }): Edge[] => { const side = sideOf(condition, value); return side === null ? [] : [{ ts, side, value }] })
    for (const { ts, side, value } of cut(edges)) {
      columns.ts.push(ts)
      columns.sides.push(side)
      columns.values.push(value)
    }
  }
  return { tenant, rule, ...columns, starts: [...columns.starts, columns.ts.length] }
}

/** Events of alarms of one device as a sink sees them: a repeat of an id is passed over. @param after where to begin in its lane */
export async function eventsOf (store: Store, tenant: string, device: string, after = ''): Promise<{ readonly once: readonly OutEvent[], readonly all: readonly OutEvent[] }> {
  const all: OutEvent[] = []
  for (let at = after; ;) {
    const { events, position } = await store.readEvents(laneOf(tenant, device), at, 1000)
    for (const { event } of events) if (event.tenant === tenant && event.device === device && event.type.startsWith('alarm.')) all.push(event)
    if (events.length === 0) break
    at = position
  }
  const seen = new Set<string>()
  return { all, once: all.filter(({ id }) => !seen.has(id) && seen.add(id)) }
}
