/** What the tests of twins share: a store, a service on it, devices, and messages as the applier gives them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { KeyedLock } from '../../src/core/keyed-lock.js'
import { silentLog } from '../../src/core/log.js'
import type { DeviceMessage } from '../../src/inlet/device-message.js'
import { openStore } from '../../src/store/open-store.js'
import { eventLanes, laneOf, type OutEvent } from '../../src/store/event-log.js'
import type { Store } from '../../src/store/store.js'
import type { Actor, TwinId, TwinRules } from '../../src/twin/twin-model.js'
import { TwinService, type TwinServiceOptions } from '../../src/twin/twin-service.js'
import { deviceOf, newTenantId } from '../store/store-fixtures.js'

export const operator: Actor = { kind: 'operator', id: 'key-1', via: 'http' }
export const anyRules: TwinRules = { conflicts: 'cloud', check: () => null }

export async function embeddedStore (t: Test): Promise<Store> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-twins-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => {
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return store
}

let stampLast = 0
export function nowStamp (): number {
  stampLast = Math.max(systemClock.nowUs(), stampLast + 1)
  return stampLast
}

export function service (t: Test, store: Store, more: Partial<TwinServiceOptions> = {}): TwinService {
  const twins = new TwinService({
    store,
    registry: store,
    deviceLock: new KeyedLock(),
    rules: { rulesOf: async () => anyRules },
    writer: '00000000000000aa',
    authoritative: true,
    intents: null,
    nowStamp,
    random: Math.random,
    historyDays: 90,
    log: silentLog,
    ...more
  })
  t.teardown(async () => { await twins.close() })
  return twins
}

export async function newDevice (store: Store, device = 'pump-1', tags?: Record<string, string>): Promise<TwinId> {
  const tenant = newTenantId()
  await store.createDevice(deviceOf(tenant, device, tags === undefined ? {} : { tags }))
  return { tenant, device, name: '' }
}

let positionLast = 1000

export interface Said { readonly stamp?: number, readonly position?: number, readonly journalId?: string, readonly replayed?: boolean }

export function message ({ tenant, device, name }: TwinId, body: unknown, { stamp = nowStamp(), position = ++positionLast, journalId = '00000000000000aa', replayed = false }: Said = {}): DeviceMessage {
  const payload = typeof body === 'string' ? Buffer.from(body) : body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body))
  return { journalId, position, stamp, tenant, device, path: name === '' ? 'twin/reported' : `twin/${name}/reported`, payload, replayed }
}

/** Events of a tenant of the last minutes, in the order of their lanes. @param devices whose lanes are read; default: all lanes */
export async function toldEvents (store: Store, tenant: string, devices?: readonly string[]): Promise<OutEvent[]> {
  const told: OutEvent[] = []
  const lanes = devices === undefined ? Array.from({ length: eventLanes }, (_, lane) => lane) : [...new Set(devices.map(device => laneOf(tenant, device)))]
  for (const lane of lanes) {
    const end = await store.endOfEvents(lane)
    let position = store.positionAt(lane, systemClock.nowUs() - 300e6)
    for (let reads = 0; position < end && reads < 1000; reads++) {
      const read = await store.readEvents(lane, position, 1000)
      told.push(...read.events.map(({ event }) => event).filter(event => event.tenant === tenant))
      if (read.position === position) break
      ;({ position } = read)
    }
  }
  return told
}
