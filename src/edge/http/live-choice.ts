/** Which devices a live subscription is of: named ones, those of a type or with tags, or all of a small tenant. */
import type { FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { inParallel } from '../../core/in-parallel.js'
import type { Device } from '../../tenancy/model.js'
import { tenantOf } from './authorize.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'

export interface LiveChoice {
  /** null: every device of the tenant, those made later too. */
  readonly devices: readonly string[] | null
  /** Those that are there now. */
  readonly known: readonly string[]
}

export interface ChoiceParameters {
  readonly devices?: readonly string[]
  readonly type?: string
  readonly tag?: readonly string[]
  readonly all?: boolean
}

/** Devices that are looked at to find those of a type or with tags; a larger tenant names its devices. */
const scannedMax = 50_000
const pageDevices = 1000

const invalid = (field: string, what: string): TwinfoldError => new TwinfoldError('invalid_field', what, { field })

/** @throws TwinfoldError `invalid_field`, `not_found`, `forbidden`, `limit_reached` (more than `devicesMax`) */
export async function chooseDevices (context: EdgeContext, request: FastifyRequest, parameters: ChoiceParameters, devicesMax: number): Promise<LiveChoice> {
  const { devices, type, tag, all = false } = parameters
  const byKind = type !== undefined || tag !== undefined
  if ([devices !== undefined, byKind, all].filter(Boolean).length !== 1) {
    throw invalid('devices', "name 'devices', or choose by 'type' and 'tag', or say all=true: one of the three")
  }
  if (devices !== undefined) return await named(context, request, devices, devicesMax)
  if (request.caller?.role === 'device') throw new TwinfoldError('forbidden', "a device watches itself, or the devices of its gateway: name them in 'devices'")
  const tags = (tag ?? []).map(parseTag)
  const found = await scan(context, tenantOf(request), devicesMax, device => {
    if (type !== undefined && device.type !== type) return false
    return tags.every(([name, value]) => device.tags !== undefined && Object.hasOwn(device.tags, name) && device.tags[name] === value)
  })
  return { devices: all ? null : found, known: found }
}

async function named (context: EdgeContext, request: FastifyRequest, given: readonly string[], devicesMax: number): Promise<LiveChoice> {
  const devices = [...new Set(given.length === 1 ? given[0].split(',') : given)]
  const wrong = devices.find((id): boolean => !isDeviceId(id))
  if (wrong !== undefined) throw invalid('devices', `'${wrong.slice(0, 200)}' is no device id: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -`)
  if (devices.length > devicesMax) throw invalid('devices', `at most ${devicesMax} devices in one subscription`)
  await inParallel(devices, async id => { await requireVisible(context, request, id) })
  return { devices, known: devices }
}

function parseTag (text: string): readonly [name: string, value: string] {
  const at = text.indexOf('=')
  if (at < 1) throw invalid('tag', "'tag' must be NAME=VALUE")
  return [text.slice(0, at), text.slice(at + 1)]
}

async function scan (context: EdgeContext, tenant: string, devicesMax: number, wanted: (device: Device) => boolean): Promise<string[]> {
  const { store } = context.options
  const found: string[] = []
  let scanned = 0
  let cursor: string | null = null
  do {
    const page = await store.listDevices(tenant, cursor, pageDevices)
    for (const device of page.items) if (wanted(device)) found.push(device.id)
    if (found.length > devicesMax) throw new TwinfoldError('limit_reached', `more than ${devicesMax} devices: a subscription takes no more, so choose fewer`)
    scanned += page.items.length
    if (scanned > scannedMax) throw new TwinfoldError('limit_reached', `the tenant has more than ${scannedMax} devices: name those to watch in 'devices'`)
    cursor = page.next
  } while (cursor !== null)
  return found
}
