/**
 * A tenant's events as MQTT topics for its back ends: `twinfold/events/{device or -}/{type}`, CloudEvents in JSON, QoS 1. On where the
 * tenant says so (`PUT /events/mqtt`): the broker keeps what a session has subscribed to, and drops what nobody has.
 */
import { webhookBatchEventsMax } from '../core/limits.js'
import type { OutEvent } from '../store/event-log.js'
import { cloudEventJson } from './cloud-event.js'
import { chosenTypes, eventTypes } from './event-types.js'
import type { RetryPolicy, Verdict } from './retry-policy.js'
import type { Sink } from './sink.js'
import { mqttEventsId, type MqttEvents } from './webhook-model.js'

/** Resolves when the broker has taken it, QoS 1. */
export type PublishEvent = (tenant: string, topic: string, payload: Buffer) => Promise<void>

/** The broker is ours: it is tried until the log gives an event up. */
const policy: RetryPolicy = { firstMs: 500, longestMs: 10_000, giveUpMs: Infinity, refusedAttemptsMax: Infinity }

export function eventTopic ({ device, type }: OutEvent): string { return `twinfold/events/${device === '' ? '-' : device}/${type}` }

export function mqttSink (tenant: string, settings: MqttEvents, publish: PublishEvent): Sink {
  const types = chosenTypes(settings.types) ?? new Set(eventTypes)
  return {
    tenant,
    id: mqttEventsId,
    revision: settings.updatedAt,
    start: settings.start,
    paused: false,
    policy,
    batchMax: webhookBatchEventsMax,
    wants: event => types.has(event.type),
    deliver: async events => await publishAll(events, publish),
    gone: async () => {}
  }
}

async function publishAll (events: readonly OutEvent[], publish: PublishEvent): Promise<Verdict> {
  try {
    // One after the other: a device's events stay in order.
    for (const event of events) await publish(event.tenant, eventTopic(event), Buffer.from(cloudEventJson(event)))
    return { kind: 'delivered' }
  } catch (error) {
    return { kind: 'again', reason: (error as Error).message.slice(0, 200), retryAfterMs: null }
  }
}
