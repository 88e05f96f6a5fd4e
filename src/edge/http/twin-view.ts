/** Twins, their events and differences as HTTP answers show them: times as ISO 8601, or as milliseconds where they are asked for. */
import { usPerMs } from '../../core/reading.js'
import type { Device } from '../../tenancy/model.js'
import type { LeafTime, TwinEvent, TwinView } from '../../twin/twin-model.js'
import { connectionSchema } from './connection-view.js'
import { isoTime } from './query-time.js'
import type { Schema } from './schema-check.js'

export type TimesForm = 'iso' | 'ms'

const timeSchema: Schema = { type: ['string', 'number', 'null'], description: 'ISO 8601, or milliseconds with times=ms.' }
const leafTimesSchema: Schema = {
  type: 'object',
  description: 'By path of the leaf, keys with dots between (a dot in a key is escaped by a backslash).',
  additionalProperties: {
    type: 'object',
    properties: {
      at: { ...timeSchema, description: 'When it was set: the device\'s own time where it gave one, else as acceptedAt.' },
      acceptedAt: timeSchema,
      version: { type: 'integer', description: 'The number that the device gave its update.' }
    }
  }
}

export const twinSchema: Schema = {
  type: 'object',
  properties: {
    deviceId: { type: 'string' },
    name: { type: 'string', description: 'Absent on the device\'s own twin.' },
    type: { type: 'string' },
    tags: { type: 'object', additionalProperties: { type: 'string' } },
    desired: { type: 'object' },
    reported: { type: 'object' },
    delta: { type: 'object', description: 'The parts of desired that differ from reported; what was taken out of desired and is still reported stands as null until the device speaks about it.' },
    metadata: { type: 'object', properties: { desired: leafTimesSchema, reported: leafTimesSchema } },
    version: { type: 'integer', description: 'One more for each change; 0: nothing was ever changed.' },
    desiredVersion: { type: 'integer' },
    reportedVersion: { type: 'integer' },
    tagsVersion: { type: 'integer' },
    createdAt: timeSchema,
    updatedAt: timeSchema,
    names: { type: 'array', items: { type: 'string' }, description: 'Named twins of the device; only on its own twin.' },
    connection: connectionSchema
  }
}

function timeOf (us: number, times: TimesForm): string | number | null {
  if (us === 0) return null
  return times === 'ms' ? us / usPerMs : isoTime(us)
}

function leafTimes (byPath: Readonly<Record<string, LeafTime>>, times: TimesForm): object {
  return Object.fromEntries(Object.entries(byPath).map(([path, { at, stamp, v }]) => [path, { at: timeOf(at, times), acceptedAt: timeOf(stamp, times), ...(v === undefined ? {} : { version: v }) }]))
}

/** @param device null where it is gone meanwhile */
export function twinView (twin: TwinView, device: Device | null, times: TimesForm, connection: { readonly connection?: object } = {}): object {
  const { deviceId, name, tags, desired, reported, delta, metadata, version, desiredVersion, reportedVersion, tagsVersion, createdAt, updatedAt, names } = twin
  return {
    deviceId,
    ...(name === '' ? {} : { name }),
    type: device?.type ?? '',
    ...(name === '' ? { tags } : {}),
    desired,
    reported,
    delta,
    metadata: { desired: leafTimes(metadata.desired, times), reported: leafTimes(metadata.reported, times) },
    version,
    desiredVersion,
    reportedVersion,
    tagsVersion,
    createdAt: timeOf(createdAt, times),
    updatedAt: timeOf(updatedAt, times),
    ...(names === undefined ? {} : { names }),
    ...connection
  }
}

export const changeSchema: Schema = {
  type: 'object',
  properties: {
    version: { type: 'integer' },
    time: timeSchema,
    kind: { type: 'string', enum: ['created', 'changed', 'deleted'] },
    actor: { type: 'object', properties: { kind: { type: 'string' }, id: { type: 'string' }, via: { type: 'string' } } },
    reason: { type: 'string' },
    patch: { type: 'object', description: 'Merge patches (RFC 7396) of the parts that changed: desired, reported, tags.' },
    named: { type: 'object', description: 'A named twin of the device that was added or removed.' }
  }
}

export function changeView ({ version, stamp, kind, actor, reason, patch, named }: TwinEvent, times: TimesForm): object {
  return { version, time: timeOf(stamp, times), kind, actor, reason, patch, ...(named === undefined ? {} : { named }) }
}
