/** The rebuild of analytics on the engine of the embedded profile and on a ClickHouse over HTTP. */
import t from 'tap'
import { services, skipWithout } from '../support/services.js'
import { startTestEngine } from '../support/analytics-engine.js'
import { rebuildSuite } from './rebuild-suite.js'

t.setTimeout(240_000)

void t.test('embedded', t => {
  let engine: ReturnType<typeof startTestEngine> | null = null
  t.teardown(async () => { await (await engine)?.close() })
  rebuildSuite(t, async () => {
    const { engine: { settings } } = await (engine ??= startTestEngine())
    return settings
  })
  t.end()
})

void t.test('over HTTP', t => {
  if (!skipWithout(t, 'clickHouse')) rebuildSuite(t, async () => ({ url: services().clickHouse?.url ?? '' }))
  t.end()
})
