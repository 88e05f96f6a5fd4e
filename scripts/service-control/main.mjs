/** The command line of scripts/services. Exit code 0: all that was asked for is so; 1: something is missing; 2: wrong usage. */
import { rmSync } from 'node:fs'
import { down, status, up } from './control.mjs'
import { readSettings, servicesDirectory, variables } from './settings.mjs'
import { serviceNames } from './starters.mjs'

const usage = `usage: scripts/services up|down|status [${serviceNames.join('|')} …]
  up      start what does not answer yet (a service that runs already is used as it is), and wait until it does
  down    stop what up started; with --data, remove its data as well
  status  what answers, where, and whose it is

Settings (environment):
${Object.entries(variables).map(([name, meaning]) => `  ${name}  ${meaning}`).join('\n')}
`

const [verb, ...rest] = process.argv.slice(2)
const removeData = rest.includes('--data')
const names = rest.filter(name => name !== '--data')
if (!['up', 'down', 'status'].includes(verb) || names.some(name => !serviceNames.includes(name)) || (removeData && (verb !== 'down' || names.length > 0))) {
  process.stderr.write(usage)
  process.exit(2)
}
const asked = names.length === 0 ? serviceNames : names
const from = performance.now()
const log = line => { process.stdout.write(`[${((performance.now() - from) / 1000).toFixed(1).padStart(5)} s] ${line}\n`) }

try {
  const settings = readSettings(process.env)
  if (verb === 'up') {
    const { state } = await up(settings, log, asked)
    process.exitCode = asked.every(name => (state.missing[name] ?? null) === null) ? 0 : 1
  } else if (verb === 'down') {
    await down(settings, log, asked)
    if (removeData) rmSync(servicesDirectory, { recursive: true, force: true })
  } else {
    const lines = await status(settings)
    for (const { line } of lines.filter(({ name }) => asked.includes(name))) process.stdout.write(`${line}\n`)
    process.exitCode = lines.every(({ name, answers }) => answers || !asked.includes(name)) ? 0 : 1
  }
} catch (error) {
  process.stderr.write(`services: ${error.message}\n`)
  process.exitCode = 1
}
