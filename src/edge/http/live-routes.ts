/** Live readings as server-sent events: the latest values first, then every accepted reading (src/live). */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { liveFilter } from '../../core/live-filter.js'
import type { LiveSubscriber } from '../../live/live-subscriber.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import type { Caller } from './edge-types.js'
import { EventStream } from './event-stream.js'
import { chooseDevices, type ChoiceParameters } from './live-choice.js'
import { metricsSchema, parseMetrics, timesSchema } from './query-scope.js'
import { routeDocs } from './route-docs.js'

interface LiveParameters extends ChoiceParameters {
  readonly metrics?: readonly string[]
  readonly times?: 'iso' | 'ms'
}

const lastIdCharsMax = 64

const description = `A stream of server-sent events (text/event-stream). First \`latest\` for each chosen device, \`{"device","latest":{metric:{"ts","value"}}}\`, then \`ready\`, then \`reading\` for every accepted reading,
\`{"device","ts","values"}\`, late ones too, as they come; a reading may come twice. \`gap\` \`{"reason"}\`: readings may be missing here. \`dropped\` \`{"readings"}\`: the client does not keep up; so many were left out, and
\`latest\` with the newest value of each metric of theirs follows. \`revoked\` and \`closing\` end it. A comment comes every 15 s where nothing else does. With Last-Event-ID what was missed is sent again where it is still kept, else \`gap\`.`

const docs = routeDocs({
  summary: 'Watch readings live',
  description,
  tag: 'telemetry',
  headers: { type: 'object', properties: { 'last-event-id': { type: 'string', maxLength: lastIdCharsMax, description: 'The `id` of the last event that was got.' } } },
  query: {
    type: 'object',
    additionalProperties: false,
    properties: {
      devices: { type: 'array', items: { type: 'string', maxLength: 16_384 }, maxItems: 1000, description: 'Ids with commas between, or the parameter several times with one id each.' },
      type: { type: 'string', maxLength: 256, description: 'Devices of this type, as they are when it begins.' },
      tag: { type: 'array', items: { type: 'string', maxLength: 400 }, maxItems: 32, description: 'NAME=VALUE; several times for several tags, all of which a device must have when it begins.' },
      all: { type: 'boolean', description: 'Every device of the tenant, those made later too; for tenants with at most 1,000 devices.' },
      metrics: metricsSchema,
      times: timesSchema
    }
  },
  answers: { 200: { description: 'The stream.', mediaType: 'text/event-stream', schema: { type: 'string' } } },
  errors: ['throttled', 'limit_reached']
})

async function sendLive (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { live } = context.options
  if (live === undefined) throw new TwinfoldError('not_ready', 'live readings are not served here')
  const { metrics, times = 'iso', ...choice } = request.query as LiveParameters
  const filter = liveFilter({ form: 'sse', times, metrics: parseMetrics(metrics) })
  const { devices, known } = await chooseDevices(context, request, choice, live.limits.devicesPerSubscriberMax)
  const lastId = request.headers['last-event-id']
  const asked = { principal: (request.caller as Caller).principal, tenant: tenantOf(request), devices, latestOf: known, filter }
  // A connection that is refused must still get its problem document: nothing is taken over before this.
  live.admit(asked)
  if (request.raw.destroyed) return reply
  let subscriber: LiveSubscriber | null = null
  const sink = new EventStream(reply, {
    onDrain: () => { subscriber?.drained() },
    onClose: () => { if (subscriber !== null) live.end(subscriber, true) }
  })
  subscriber = live.watch({ ...asked, sink, ...(typeof lastId === 'string' && lastId !== '' ? { lastId: lastId.slice(0, lastIdCharsMax) } : {}) })
  return reply
}

export function liveRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    // Streams end with a word before the server waits for running requests.
    app.addHook('preClose', done => {
      context.options.live?.endAll()
      done()
    })
    app.get('/live', { ...docs, onRequest: authorizeHook(context, ['operator', 'application', 'viewer', 'device']) }, async (request, reply) => await sendLive(context, request, reply))
  }
}
