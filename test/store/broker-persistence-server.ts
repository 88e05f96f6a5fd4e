/**
 * A broker process for the tests that kill one: Aedes on the persistence, on a free port of 127.0.0.1. Tells its parent
 * the port, answers `stats`, and reports the payload of every message that Aedes has finished publishing.
 */
import { createServer, type AddressInfo } from 'node:net'
import { Aedes } from 'aedes'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openBrokerPersistence } from '../../src/store/embedded/broker/persistence.js'

const persistence = await openBrokerPersistence({ directory: process.argv[2], clock: systemClock, log: silentLog })
const broker = await Aedes.createBroker({ persistence, id: 'the-broker' })
broker.published = (packet, client, done) => {
  if (client !== null) process.send?.({ published: String(packet.payload) })
  done(null)
}
process.on('message', (request) => {
  if (request === 'stats') process.send?.({ stats: persistence.stats })
})
// Ends with its parent, however that ended.
process.on('disconnect', () => process.exit())
if (!process.connected) process.exit()
const server = createServer((socket) => { broker.handle(socket) })
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
