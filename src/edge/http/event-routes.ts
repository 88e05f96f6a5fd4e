/** Events as they happen, as server-sent events (src/events), and the switch for their MQTT topics. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import type { EventStreamReader } from '../../events/event-stream-reader.js'
import type { Events } from '../../events/events.js'
import type { MqttEvents } from '../../events/webhook-model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import type { Caller } from './edge-types.js'
import { EventStream } from './event-stream.js'
import { isoTime, parseQueryTime } from './query-time.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { typesSchema } from './webhook-docs.js'

/** What the routes need of events. */
export type EventsSource = Pick<Events, 'webhooks' | 'streams' | 'letters' | 'parse'>

/** @throws TwinfoldError `not_ready` where events are not served */
export function eventsOf (context: EdgeContext): EventsSource {
  const { events } = context.options
  if (events === undefined) throw new TwinfoldError('not_ready', 'events are not served here')
  return events
}

interface StreamParameters {
  readonly types?: readonly string[]
  readonly devices?: readonly string[]
  readonly filter?: string
  readonly from?: string
}

const streamDocs = routeDocs({
  summary: 'Watch events',
  description: `A stream of server-sent events (text/event-stream): CloudEvents 1.0 in JSON, named by their type (\`event: twin.changed\`). It begins now, at \`from\`, or after Last-Event-ID: events are kept for 7 days, so nothing is lost in
between; an event may come twice (same id). Events of one device come in order. A comment or an \`id\` comes every 15 s where nothing else does. \`gap\`: the place asked for is older than what is kept; \`revoked\` and \`closing\` end it. A device gets
its own events only.`,
  tag: 'events',
  headers: { type: 'object', properties: { 'last-event-id': { type: 'string', maxLength: 2048, description: 'The `id` that was got last.' } } },
  query: {
    type: 'object',
    additionalProperties: false,
    properties: {
      types: { type: 'array', items: { type: 'string', maxLength: 512 }, maxItems: 32, description: 'Types with commas between, or the parameter several times; twin.* is all of a family. Default: all.' },
      devices: { type: 'array', items: { type: 'string', maxLength: 16_384 }, maxItems: 1000, description: 'Ids with commas between, or the parameter several times. Default: all, and events of no device.' },
      filter: { type: 'string', maxLength: 2000, description: 'Filter over id, type, name, gateway, createdAt and tags of the device, as in `type eq "pump" and tags.site eq "berlin"`.' },
      from: { type: 'string', maxLength: 40, description: 'From that time on, within the last 7 days: ISO 8601, milliseconds since the epoch, or relative (now-6h).' }
    }
  },
  answers: { 200: { description: 'The stream.', mediaType: 'text/event-stream', schema: { type: 'string' } } },
  errors: ['throttled']
})

function listOf (values: readonly string[] | undefined): string[] {
  return [...new Set((values ?? []).flatMap(value => value.split(',')).map(value => value.trim()).filter(value => value !== ''))]
}

function chosenDevices ({ principal }: Caller, asked: readonly string[], devicesMax: number): ReadonlySet<string> | null {
  for (const id of asked) if (!isDeviceId(id)) throw new TwinfoldError('invalid_field', `'devices' holds what is no device id`, { field: 'devices' })
  if (asked.length > devicesMax) throw new TwinfoldError('invalid_field', `'devices' holds at most ${devicesMax}`, { field: 'devices' })
  if (principal.role !== 'device') return asked.length === 0 ? null : new Set(asked)
  const own = principal.device as string
  if (asked.some(id => id !== own)) throw new TwinfoldError('forbidden', 'a device gets its own events only')
  return new Set([own])
}

async function sendEvents (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { streams, parse } = eventsOf(context)
  const { types, devices, filter, from } = request.query as StreamParameters
  const caller = request.caller as Caller
  const lastId = request.headers['last-event-id']
  const start = await streams.prepare({
    principal: caller.principal,
    tenant: tenantOf(request),
    types: parse.types(listOf(types)),
    devices: chosenDevices(caller, listOf(devices), streams.limits.devicesMax),
    filter: filter === undefined ? null : parse.filter(filter),
    ...(typeof lastId === 'string' && lastId !== '' ? { lastId } : {}),
    ...(from === undefined ? {} : { fromUs: parseQueryTime(from, context.options.clock.nowUs(), 'from') })
  })
  if (request.raw.destroyed) return reply
  let reader: EventStreamReader | null = null
  const stream = new EventStream(reply, {
    onDrain: () => { reader?.drained() },
    onClose: () => { if (reader !== null) streams.end(reader, true) }
  })
  reader = streams.watch(start, {
    get writable () { return stream.writable },
    write: text => { stream.text(text) },
    end: hard => { stream.end(hard) }
  })
  return reply
}

const mqttSchema: Schema = {
  type: 'object',
  properties: { enabled: { type: 'boolean' }, types: typesSchema, since: { type: ['string', 'null'], format: 'date-time', description: 'Events from then on are published.' } }
}

function mqttView ({ enabled, types, start }: MqttEvents): object {
  return { enabled, types, since: enabled ? isoTime(start.fromUs) : null }
}

export function eventRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    // Streams end with a word before the server waits for running requests.
    app.addHook('preClose', done => {
      context.options.events?.streams.endAll()
      done()
    })
    app.get('/events', { ...streamDocs, onRequest: authorizeHook(context, ['operator', 'application', 'viewer', 'device']) }, async (request, reply) => await sendEvents(context, request, reply))

    app.get('/events/mqtt', {
      ...routeDocs({ summary: 'Are events published over MQTT?', tag: 'events', answers: { 200: { description: 'The setting.', schema: mqttSchema } } }),
      onRequest: authorizeHook(context, ['operator', 'application', 'viewer'])
    }, async request => mqttView(await eventsOf(context).webhooks.mqtt(tenantOf(request))))

    app.put('/events/mqtt', {
      ...routeDocs({
        summary: 'Publish events over MQTT, or stop',
        description: 'For keys of the tenant that subscribe to `twinfold/events/{device or -}/{type}`: CloudEvents in JSON, QoS 1, at least once, in order per device. From the moment on that it is switched on.',
        tag: 'events',
        body: { type: 'object', required: ['enabled'], additionalProperties: false, properties: { enabled: { type: 'boolean' }, types: typesSchema } },
        answers: { 200: { description: 'The setting.', schema: mqttSchema } }
      }),
      onRequest: authorizeHook(context, ['operator'])
    }, async request => mqttView(await eventsOf(context).webhooks.setMqtt(tenantOf(request), request.body as { enabled: boolean, types?: readonly string[] })))
  }
}
