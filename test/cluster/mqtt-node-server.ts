/** One node as a process of its own: an MQTT edge over a broker on Redis. Arguments: URL of Redis, prefix. Prints its port. */
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openClusterBroker } from '../../src/store/cluster/broker/open-cluster-broker.js'
import { startStage } from '../edge/mqtt-harness.js'

const [url, prefix] = process.argv.slice(2)
const broker = openClusterBroker({ settings: { url, prefix }, clock: systemClock, log: silentLog, limits: { queuedPerSessionMax: 10_000 } })
const stage = await startStage({ teardown: () => {} }, { persistence: broker.persistence, messaging: broker.messaging })
for (const tenant of ['acme', 'globex']) stage.registry.credential('application', tenant)
for (const device of ['d1', 'd2']) stage.registry.device('acme', device)
process.send?.({ port: stage.edge.port, nodeId: broker.messaging.nodeId })
process.on('disconnect', () => { process.exit(0) })
