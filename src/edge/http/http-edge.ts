/**
 * The HTTP edge: one port for the API, MQTT over WebSocket, the documents and the probes. It holds limits on everything a
 * stranger can make it hold (header bytes, body bytes, time, connections), and a close that lets running requests finish.
 */
import type { AddressInfo } from 'node:net'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { TwinfoldError, type ErrorCode } from '../../core/errors.js'
import { aggregateRoutes } from './aggregate-routes.js'
import { analyticsRoutes } from './analytics-routes.js'
import { commandRoutes } from './command-routes.js'
import { deadLetterRoutes } from './dead-letter-routes.js'
import { DeviceDirectory } from './device-directory.js'
import { deviceInletRoutes } from './device-inlet-routes.js'
import { deviceRoutes } from './device-routes.js'
import { deviceTokenRoutes } from './device-token-routes.js'
import { StampSeen, type EdgeContext } from './edge-context.js'
import type { HttpEdge, HttpEdgeOptions, HttpEdgeStats } from './edge-types.js'
import { eraseRoutes } from './erase-routes.js'
import { eventRoutes } from './event-routes.js'
import { exportRoutes } from './export-routes.js'
import { fleetRoutes } from './fleet-routes.js'
import { importRoutes } from './import-routes.js'
import { jobRoutes } from './job-routes.js'
import { keyRoutes } from './key-routes.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { liveRoutes } from './live-routes.js'
import { alarmRoutes } from './alarm-routes.js'
import { alarmRuleRoutes } from './alarm-rule-routes.js'
import { modelRoutes } from './model-routes.js'
import { nodeRoutes } from './node-routes.js'
import { registerOpenApi } from './openapi.js'
import { planRoutes } from './plan-routes.js'
import { answerParserError, problemHandler, sendProblem, toTwinfoldError } from './problem.js'
import { queryRoutes } from './query-routes.js'
import { checkerOf, type Schema } from './schema-check.js'
import { sqlRoutes } from './sql-routes.js'
import { systemRoutes } from './system-routes.js'
import { telemetryRoutes } from './telemetry-routes.js'
import { tenantRoutes } from './tenant-routes.js'
import { twinJobRoutes } from './twin-job-routes.js'
import { twinRoutes } from './twin-routes.js'
import { webhookRoutes } from './webhook-routes.js'
import { WebSocketEntry } from './web-socket-entry.js'

export type { HttpEdge, HttpEdgeOptions, HttpEdgeStats } from './edge-types.js'

const KIB = 1024
/** Largest JSON body of a resource route that names no other bound. */
const resourceBodyBytesMax = 256 * KIB
/** All header fields of a request together. */
const headerBytesMax = 16 * KIB
/** A request's header must be here in that time, and the whole request in that; a file of history may take longer. */
const headersTimeoutMs = 10_000
const requestTimeoutMs = 60_000
const longRequestTimeoutMs = 24 * 3_600_000
/** An idle connection is kept longer than a usual proxy keeps it (60 s), so that the proxy is the one to close it. */
const keepAliveTimeoutMs = 65_000
/** A device id is 128 characters, each of which may be escaped as three. */
const pathPartCharsMax = 400

export async function createHttpEdge (options: HttpEdgeOptions): Promise<HttpEdge> {
  const stats: HttpEdgeStats = {
    requests: 0, telemetryRequests: 0, telemetryAccepted: 0, telemetryBytes: 0, idempotentReplays: 0, pressureWaits: 0, pressureWaiting: 0, bodiesBytes: 0, webSockets: 0, problems: {}
  }
  const context: EdgeContext = {
    options,
    stats,
    devices: new DeviceDirectory(options.store, { leaseMs: options.deviceLeaseMs ?? 5000, cachedMax: options.devicesCachedMax ?? 200_000, clock: options.clock }),
    changes: options.changes ?? new KeyedLock(),
    stamps: new StampSeen(options.clock),
    closing: false
  }
  const app = newApp(context)
  await registerOpenApi(app)
  await app.register(async api => {
    await api.register(telemetryRoutes(context))
    await api.register(resources(context))
  }, { prefix: '/api/v1' })
  await app.register(systemRoutes(context))
  const webSockets = new WebSocketEntry(app.server, context)
  await app.ready()
  return new Edge(app, context, webSockets)
}

/** Routes with JSON bodies, checked against their documents. */
function resources (context: EdgeContext) {
  return async (api: FastifyInstance): Promise<void> => {
    api.addHook('onRequest', (_request, reply, done) => {
      void reply.header('cache-control', 'no-store')
      done()
    })
    for (const routes of [tenantRoutes, deviceRoutes, deviceTokenRoutes, keyRoutes, queryRoutes, aggregateRoutes, planRoutes, deadLetterRoutes, analyticsRoutes, fleetRoutes, sqlRoutes, liveRoutes, importRoutes, exportRoutes, jobRoutes, eraseRoutes, nodeRoutes, deviceInletRoutes, commandRoutes, modelRoutes, alarmRoutes, alarmRuleRoutes, twinRoutes, eventRoutes, webhookRoutes, twinJobRoutes]) await api.register(routes(context))
  }
}

function newApp (context: EdgeContext): FastifyInstance {
  const { options, stats } = context
  const count = (code: ErrorCode): void => { stats.problems[code] = (stats.problems[code] ?? 0) + 1 }
  const app = fastify({
    logger: false,
    bodyLimit: resourceBodyBytesMax,
    requestTimeout: longRequestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    http: { maxHeaderSize: headerBytesMax, headersTimeout: headersTimeoutMs },
    forceCloseConnections: 'idle',
    // Running connections get a problem document that says so, not Fastify's own text.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    trustProxy: options.trustProxy ?? false,
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    routerOptions: { maxParamLength: pathPartCharsMax, ignoreTrailingSlash: true },
    clientErrorHandler: answerParserError,
    frameworkErrors: (error: Error, _request: FastifyRequest, reply: FastifyReply) => {
      const problem = toTwinfoldError(error)
      count(problem.code)
      sendProblem(reply, problem)
    }
  }) as unknown as FastifyInstance
  app.server.maxConnections = options.connectionsMax ?? 20_000
  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.longBody !== true) cutSlowBody(app, request, reply)
    done()
  })
  app.decorateRequest('caller', null)
  app.decorateRequest('admission', null)
  app.removeContentTypeParser('text/plain')
  app.setErrorHandler(problemHandler(options.log, count))
  app.setNotFoundHandler((request, reply) => {
    count('not_found')
    sendProblem(reply, new TwinfoldError('not_found', `there is no ${request.method} ${request.url.split('?', 1)[0].slice(0, 200)}; see /docs`))
  })
  app.setValidatorCompiler<Schema>(({ schema, httpPart }) => checkerOf(schema, httpPart))
  // Answers are written by our own code; their schemas are documents.
  app.setSerializerCompiler(() => data => JSON.stringify(data))
  return app
}

/** Answers 408 and closes, as the server itself does where all requests have the same time. */
function cutSlowBody (app: FastifyInstance, { raw }: FastifyRequest, reply: FastifyReply): void {
  if (raw.method === 'GET' || raw.complete) return
  const timer = setTimeout(() => {
    const error = Object.assign(new Error('the body did not arrive in time'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
    app.server.emit('clientError', error, raw.socket)
  }, requestTimeoutMs).unref()
  const stop = (): void => { clearTimeout(timer) }
  raw.once('end', stop)
  // Answered without its body: what is left of it is the server's to pass over or to cut.
  reply.raw.once('finish', stop)
  reply.raw.once('close', stop)
}

class Edge implements HttpEdge {
  readonly app: FastifyInstance
  readonly #context: EdgeContext
  readonly #webSockets: WebSocketEntry

  constructor (app: FastifyInstance, context: EdgeContext, webSockets: WebSocketEntry) {
    this.app = app
    this.#context = context
    this.#webSockets = webSockets
  }

  get stats (): Readonly<HttpEdgeStats> { return this.#context.stats }

  get port (): number {
    const address = this.app.server.address() as AddressInfo | null
    return address?.port ?? this.#context.options.port
  }

  async open (): Promise<void> {
    const { host, port } = this.#context.options
    await this.app.listen({ host, port })
  }

  async close (): Promise<void> {
    this.#context.closing = true
    this.#webSockets.close()
    const grace = setTimeout(() => { this.app.server.closeAllConnections() }, this.#context.options.closeGraceMs ?? 10_000)
    try {
      await this.app.close()
    } finally {
      clearTimeout(grace)
    }
  }
}
