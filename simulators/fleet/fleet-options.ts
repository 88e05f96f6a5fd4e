/** The arguments of the fleet, read once into one object with units in the names. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

export const fleetUsage = `fleet: load generator for MQTT and HTTP

  --mode mqtt|http|idle|sink|self-test   what to do (default mqtt)
  --host H --port P                      server (default 127.0.0.1:1883)
  --connections N                        (default 50)
  --in-flight N                          publishes outstanding per connection (default 20)
  --rate N                               publishes per second in all; 0: as fast as acknowledged (default 0)
  --seconds S --warm-up-seconds S        measured time, and time before it (default 10 and 2)
  --devices N                            publish for N devices, devices/{prefix}{i}/telemetry, with --key; default: one per connection, topic telemetry
  --device-prefix P                      (default d)
  --client-prefix P                      client ids are {P}-0, {P}-1, … (default fleet); fleets side by side need different ones
  --tokens FILE                          a token per line, one per connection
  --key KEY                              application key, for --devices and --probe
  --ts                                   put a timestamp of its own into every reading
  --metrics N                            (default 10)
  --readings N                           readings in a POST (default 100)
  --probe URL --probes-per-second N      measure after what time acknowledged readings are queryable; needs --ts and --key
  --seed N                               (default 1)
  --json                                 events and the result as JSON lines
`

export type FleetMode = 'mqtt' | 'http' | 'idle' | 'sink' | 'self-test'

export interface FleetOptions {
  readonly mode: FleetMode
  readonly host: string
  readonly port: number
  readonly connections: number
  readonly inFlight: number
  readonly ratePerSecond: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** 0: one device per connection. */
  readonly devices: number
  readonly devicePrefix: string
  readonly clientIdPrefix: string
  readonly tokens: readonly string[]
  readonly key: string | undefined
  readonly stamped: boolean
  readonly metrics: number
  readonly readingsPerPost: number
  readonly probeUrl: string | undefined
  readonly probesPerSecond: number
  readonly seed: number
  readonly json: boolean
}

/** @throws Error that names a wrong argument. */
export function parseFleetOptions (args: readonly string[]): FleetOptions | 'help' {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      mode: text, host: text, port: text, connections: text, 'in-flight': text, rate: text, seconds: text, 'warm-up-seconds': text, devices: text, 'device-prefix': text, 'client-prefix': text,
      tokens: text, key: text, ts: flag, metrics: text, readings: text, probe: text, 'probes-per-second': text, seed: text, json: flag, help: flag
    }
  })
  if (values.help === true) return 'help'
  const number = (name: keyof typeof values, fallback: number, least: number): number => {
    const value = values[name] === undefined ? fallback : Number(values[name])
    if (!(value >= least)) throw new Error(`--${name} must be a number of at least ${least}`)
    return value
  }
  const mode = values.mode ?? 'mqtt'
  if (!['mqtt', 'http', 'idle', 'sink', 'self-test'].includes(mode)) throw new Error(`--mode ${mode} is not known`)
  const options: FleetOptions = {
    mode: mode as FleetMode,
    host: values.host ?? '127.0.0.1',
    port: number('port', mode === 'http' ? 8080 : 1883, 0),
    connections: number('connections', 50, 1),
    inFlight: number('in-flight', 20, 1),
    ratePerSecond: number('rate', 0, 0),
    seconds: number('seconds', 10, 0.01),
    warmUpSeconds: number('warm-up-seconds', 2, 0),
    devices: number('devices', 0, 0),
    devicePrefix: values['device-prefix'] ?? 'd',
    clientIdPrefix: values['client-prefix'] ?? 'fleet',
    tokens: values.tokens === undefined ? [] : readFileSync(values.tokens, 'utf8').split('\n').filter(line => line !== ''),
    key: values.key,
    stamped: values.ts === true,
    metrics: number('metrics', 10, 1),
    readingsPerPost: number('readings', 100, 1),
    probeUrl: values.probe,
    probesPerSecond: number('probes-per-second', 20, 0.1),
    seed: number('seed', 1, 0),
    json: values.json === true
  }
  if (options.tokens.length > 0 && options.tokens.length < options.connections) throw new Error('--tokens holds fewer tokens than there are connections')
  if (options.probeUrl !== undefined && !(options.stamped && options.key !== undefined)) throw new Error('--probe needs --ts and --key')
  return options
}
