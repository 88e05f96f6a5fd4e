/**
 * Baseline: Aedes alone, with nothing stored and nothing checked. It acknowledges at once; nobody subscribes. What a broker
 * costs before any of our promises. Prints a line like the server's when ready.
 */
import { createServer, type AddressInfo } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
const server = createServer({ noDelay: true }, socket => { broker.handle(socket) })
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ ready: true, port: (server.address() as AddressInfo).port, pid: process.pid })}\n`)
})
process.on('SIGTERM', () => { process.exit(0) })
