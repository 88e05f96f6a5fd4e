/**
 * Which events a sink wants: by type, by device, by a filter over what the registry says of the device. Registry records are remembered
 * for a few seconds, and serve on through an outage of the store (gate/lease-cache.ts).
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { evaluateFilter } from '../core/filter/evaluate-filter.js'
import { fieldsOf, type Filter } from '../core/filter/filter.js'
import { parseFilter } from '../core/filter/parse-filter.js'
import { registryStaleMsMax } from '../core/limits.js'
import { LeaseCache } from '../gate/lease-cache.js'
import type { OutEvent } from '../store/event-log.js'
import type { RegistryStore } from '../store/registry.js'
import type { Device } from '../tenancy/model.js'

const leaseMs = 5000
const rememberedMax = 50_000

export class DeviceFacts {
  readonly #store: Pick<RegistryStore, 'getDevice'>
  readonly #devices: LeaseCache<Device | null>
  readonly #clock: Clock

  constructor (store: Pick<RegistryStore, 'getDevice'>, clock: Clock) {
    this.#store = store
    this.#clock = clock
    this.#devices = new LeaseCache({ leaseMs, rememberedMax, monotonicMs: () => clock.monotonicMs(), staleMsMax: registryStaleMsMax, isUnknown: device => device === null })
  }

  /**
   * Does the filter hold for the device? One that is not registered (any more) cannot be judged: its events are told rather than
   * withheld. Events of no device do not hold.
   */
  async holds (filter: Filter, tenant: string, id: string): Promise<boolean> {
    if (id === '') return false
    const device = await this.#devices.get(`${tenant}\0${id}`, async () => await this.#store.getDevice(tenant, id))
    return device === null || evaluateFilter(filter, { ...device, gateway: device.gatewayId }, this.#clock.nowUs())
  }
}

const registryRoots: ReadonlySet<string> = new Set(['id', 'name', 'type', 'gateway', 'createdAt', 'tags'])

/** @throws TwinfoldError `invalid_field` (field `filter`), also where it looks at what is not in the registry */
export function parseEventFilter (text: string): Filter {
  const filter = parseFilter(text)
  for (const { root } of fieldsOf(filter)) {
    if (!registryRoots.has(root)) throw new TwinfoldError('invalid_field', `'filter' of events may look at ${[...registryRoots].join(', ')}; not at ${root}`, { field: 'filter' })
  }
  return filter
}

/** What a sink or stream wants of a tenant's events. */
export interface EventChoice {
  readonly types: ReadonlySet<string>
  /** null: every device, and events of none. */
  readonly devices: ReadonlySet<string> | null
  readonly filter: Filter | null
}

/** Without asking anybody where there is no filter. */
export function chooses (choice: EventChoice, event: OutEvent, facts: DeviceFacts): boolean | Promise<boolean> {
  if (!choice.types.has(event.type)) return false
  if (choice.devices !== null && !choice.devices.has(event.device)) return false
  return choice.filter === null || facts.holds(choice.filter, event.tenant, event.device)
}
