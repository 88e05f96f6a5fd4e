/** The public suite that every Aedes persistence has to pass (aedes-persistence/abstract.js), on this one. */
import assert from 'node:assert'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openBrokerPersistence } from '../../src/store/embedded/broker/persistence.js'

interface SuiteTest {
  plan: (count: number) => void
  diagnostic: (text: string) => void
  assert: Record<'ok' | 'equal' | 'notEqual' | 'deepEqual', (...values: unknown[]) => void>
}
type Suite = (options: {
  test: (name: string, run: (test: SuiteTest) => Promise<void>) => void
  persistence: () => Promise<unknown>
  testAsync: boolean
}) => void

const suite = createRequire(import.meta.url)('aedes-persistence/abstract.js') as Suite
const root = mkdtempSync(join(tmpdir(), 'broker-abstract-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
let directories = 0

/** The suite is written for node:test; its assertions are node:assert, counted against its plan. */
function run (name: string, body: (test: SuiteTest) => Promise<void>): void {
  void t.test(name, async (t) => {
    let planned: number | null = null
    let asserted = 0
    const counted = (check: (...values: never[]) => void) => (...values: unknown[]): void => {
      asserted++
      check(...values as never[])
    }
    await body({
      plan: (count) => { planned = count },
      diagnostic: () => {},
      assert: {
        ok: counted(assert.ok), equal: counted(assert.equal), notEqual: counted(assert.notEqual), deepEqual: counted(assert.deepEqual)
      }
    })
    t.equal(asserted, planned ?? asserted, `${asserted} assertions of the suite held`)
  })
}

suite({
  test: run,
  testAsync: true,
  persistence: async () => await openBrokerPersistence({ directory: join(root, String(directories++)), clock: systemClock, log: silentLog, sweepEveryMs: 0 })
})
