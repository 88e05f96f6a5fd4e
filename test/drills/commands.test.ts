import t from 'tap'
import { runCommandDrill } from '../support/command-drill.js'
import { temporaryDirectory } from '../support/server.js'

/**
 * The long command drill (`npm run drill:commands`, not part of `npm test`): 10,000 commands, five kills. `--seed=n`, `--commands=n` and
 * `--kills=n`, or SEED, COMMANDS and KILLS, choose others.
 */
function argument (name: string, fallback: number): number {
  const given = process.argv.find(text => text.startsWith(`--${name}=`))?.slice(name.length + 3) ?? process.env[name.toUpperCase()]
  return given === undefined ? fallback : Number(given)
}

t.setTimeout(1_800_000)

void t.test('every command agrees with the ledgers of devices that come and go, over SIGKILLs of the server', { timeout: 1_800_000 }, async t => {
  const { directory, remove } = await temporaryDirectory('command-drill')
  t.teardown(remove)
  const commands = argument('commands', 10_000)
  const result = await runCommandDrill({
    directory,
    seed: argument('seed', Date.now() % 2 ** 31),
    commands,
    devices: 200,
    kills: argument('kills', 5),
    atOnce: 16,
    pauseMsMax: 200,
    timeoutMs: [500, 30_000],
    log: line => { t.comment(line) }
  })
  t.same(result.lies, [], 'no command lies')
  t.equal(Object.values(result.states).reduce((sum, count) => sum + count, 0), commands, 'none is lost')
  for (const state of ['succeeded', 'failed', 'expired', 'unanswered', 'cancelled']) t.ok((result.states[state] ?? 0) > 0, `some are ${state}`)
})
