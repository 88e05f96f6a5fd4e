/** A twin's step as an event of the outbox: what webhooks, streams and the search projection are told of it. */
import { createHash } from 'node:crypto'
import { isoTime } from '../core/iso-time.js'
import type { EntityKey } from '../store/entity-store.js'
import type { OutEvent } from '../store/event-log.js'
import type { StoredTwinEvent } from './event-codec.js'

const idCharsMax = 256

/** The same for a repeat of the event; no other event has it, since versions go on after a deletion. */
export function eventId ({ tenant, device, name }: Pick<EntityKey, 'tenant' | 'device' | 'name'>, version: number): string {
  const id = `${tenant}/${device}/twin/${name === '' ? '' : `${name}/`}${version}`
  return id.length <= idCharsMax ? id : `twin/${createHash('sha256').update(`${tenant}\0${device}\0${name}`).digest('hex')}/${version}`
}

export function outEvent (key: EntityKey, event: StoredTwinEvent): OutEvent {
  const { tenant, device, name } = key
  const { version, kind, actor, reason, patch, named, desiredVersion, reportedVersion, stamp } = event
  return {
    id: eventId(key, version),
    tenant,
    device,
    type: `twin.${kind}`,
    stamp,
    data: JSON.stringify({ deviceId: device, name, version, kind, actor, reason, patch, named, desiredVersion, reportedVersion, time: isoTime(stamp) }),
    sequence: { of: `twin/${name}`, number: version }
  }
}
