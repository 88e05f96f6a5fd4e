/**
 * Runs the fleet as a process of its own against a server, and takes the server's CPU time over exactly the measured part.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { FleetResult } from '../../simulators/fleet.js'
import { cpuMs } from './process-meter.js'

const fleetFile = fileURLToPath(new URL('../../simulators/fleet.js', import.meta.url))

export interface FleetMeasurement extends FleetResult {
  /** CPU of the server, µs per message. */
  readonly serverCpuUs: number
}

/** @param serverPid whose CPU time is taken; undefined for none. @throws Error when the fleet fails */
export async function runFleet (args: readonly (string | number)[], serverPid: number | undefined): Promise<FleetMeasurement> {
  const child = spawn(process.execPath, [fleetFile, '--json', ...args.map(String)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  let cpuBeforeMs = 0
  let cpuAfterMs = 0
  let result: FleetResult | undefined
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as { event: string } & FleetResult
    if (event.event === 'measuring' && serverPid !== undefined) cpuBeforeMs = cpuMs(serverPid)
    if (event.event === 'measured' && serverPid !== undefined) cpuAfterMs = cpuMs(serverPid)
    if (event.event === 'result') result = event
  }
  const [code] = await exited as [number | null]
  if (result === undefined) throw new Error(`the fleet ended with ${String(code)} and no result: ${args.join(' ')}`)
  return { ...result, serverCpuUs: (cpuAfterMs - cpuBeforeMs) * 1000 / Math.max(1, result.messages) }
}

export interface IdleFleet {
  stop(): Promise<void>
}

/** Opens idle connections and returns when all are subscribed. */
export async function holdIdleFleet (args: readonly (string | number)[]): Promise<IdleFleet> {
  const child = spawn(process.execPath, [fleetFile, '--mode', 'idle', ...args.map(String)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  await Promise.race([once(lines, 'line'), exited.then(() => { throw new Error('the idle fleet ended') })])
  return {
    stop: async () => {
      child.kill('SIGTERM')
      await exited
    }
  }
}
