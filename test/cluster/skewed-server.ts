/** The server with a wall clock that is `SKEW_MS` off: what src/main.ts starts, for tests of clocks between nodes. */
import { pino } from 'pino'
import { startApp } from '../../src/app.js'
import { readConfig } from '../../src/config.js'
import { systemClock } from '../../src/core/clock.js'

const skewUs = Number(process.env.SKEW_MS ?? 0) * 1000
const config = readConfig(process.env)
const log = pino({ level: config.logLevel, base: undefined }, pino.destination({ dest: 2, sync: true }))
const app = await startApp(config, { clock: { nowUs: () => systemClock.nowUs() + skewUs, monotonicMs: () => systemClock.monotonicMs() }, log })
process.on('SIGTERM', () => { void app.close().then(() => process.exit(0), () => process.exit(1)) })
process.stdout.write(`${JSON.stringify({ ready: true, mqttPort: app.mqttPort, httpPort: app.httpPort, pid: process.pid })}\n`)
