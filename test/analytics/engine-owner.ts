/** A process that owns an embedded analytics engine and is killed by its test (engine.test.ts). */
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openAnalytics } from '../../src/store/open-analytics.js'
import { pointOf } from '../store/analytics.contract.js'
import { startTestEngine } from '../support/analytics-engine.js'

const { engine } = await startTestEngine({ directory: process.argv[2] })
const store = openAnalytics(engine.settings, { clock: systemClock, log: silentLog, watch: false })
await store.insertPoints([pointOf('acme')])
process.send?.({ pid: engine.pid, socketPath: engine.settings.socketPath })
