import t from 'tap'
import { runCommandDrill } from '../support/command-drill.js'
import { temporaryDirectory } from '../support/server.js'

/** 300 commands and two kills; `npm run drill:commands` runs 10,000 and five. */
void t.test('every command agrees with the ledgers of devices that come and go, over SIGKILLs of the server', { timeout: 120_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('commands')
  t.teardown(remove)
  const lines: string[] = []
  const result = await runCommandDrill({
    directory, seed: Number(process.env.SEED ?? Date.now() % 2 ** 31), commands: 300, devices: 24, kills: 2, atOnce: 12, pauseMsMax: 120, timeoutMs: [200, 5000], log: line => lines.push(line)
  })
  const story = lines.join('; ')
  t.same(result.lies, [], `no command lies; ${story}`)
  t.equal(Object.values(result.states).reduce((sum, count) => sum + count, 0), 300, `none is lost; ${story}`)
  t.ok((result.states.succeeded ?? 0) > 0 && (result.states.unanswered ?? 0) > 0 && (result.states.expired ?? 0) > 0, `all kinds of ends were met; ${story}`)
})
