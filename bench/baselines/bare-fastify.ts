/**
 * Baseline: Fastify that reads the body into a buffer, forgets it and answers 204. What HTTP costs before any of our
 * promises. Prints a line like the server's when ready.
 */
import type { AddressInfo } from 'node:net'
import { fastify } from 'fastify'

const app = fastify({ bodyLimit: 4 * 1024 * 1024 })
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
app.post('/api/v1/devices/:id/telemetry', (_request, reply) => { void reply.code(204).send() })
await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 0) })
process.stdout.write(`${JSON.stringify({ ready: true, port: (app.server.address() as AddressInfo).port, pid: process.pid })}\n`)
process.on('SIGTERM', () => { process.exit(0) })
