/** The arguments of the solar replay, read once into one object with units in the names. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

export const replayUsage = `solar-replay: sends the readings of a real solar plant as many devices

  --data DIR           directory with monthly files (default: the month that comes with the project)
  --months M,M         only these, as in 2017-05,2017-06
  --devices N          (default 5); device k is plant-k
  --device-prefix P    (default plant-)
  --speed F|max        factor of real time, or as fast as acknowledged (default max)
  --shift              move event times so that the data ends now
  --stagger-seconds S  device k's times are k × S seconds later (default 0: the same rows for every device)
  --qos 0|1            (default 1)
  --in-flight N        publishes outstanding per device (default 200)
  --server URL         (default mqtt://127.0.0.1:1883)
  --http URL           (default http://127.0.0.1:8080), to create devices with --key
  --key KEY            key of the tenant that may create devices; one that exists is given a further token
  --tokens FILE        instead of --key: a device token per line
  --quiet              no progress
`

export interface ReplayOptions {
  readonly data: string | undefined
  readonly months: readonly string[]
  readonly devices: number
  readonly devicePrefix: string
  /** Infinity: as fast as acknowledged. */
  readonly speed: number
  readonly shift: boolean
  readonly staggerMs: number
  readonly qos: 0 | 1
  readonly inFlight: number
  readonly server: string
  readonly http: string
  readonly key: string | undefined
  readonly tokens: readonly string[]
  readonly quiet: boolean
}

/** @throws Error that names a wrong argument. */
export function parseReplayOptions (args: readonly string[]): ReplayOptions | 'help' {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      data: text, months: text, devices: text, 'device-prefix': text, speed: text, shift: flag, 'stagger-seconds': text, qos: text, 'in-flight': text, server: text, http: text, key: text,
      tokens: text, quiet: flag, help: flag
    }
  })
  if (values.help === true) return 'help'
  const number = (name: string, given: string | undefined, fallback: number, least: number): number => {
    const value = given === undefined ? fallback : Number(given)
    if (!(value >= least)) throw new Error(`--${name} must be a number of at least ${least}`)
    return value
  }
  const qos = number('qos', values.qos, 1, 0)
  if (qos !== 0 && qos !== 1) throw new Error('--qos must be 0 or 1')
  const options: ReplayOptions = {
    data: values.data,
    months: values.months?.split(',') ?? [],
    devices: number('devices', values.devices, 5, 1),
    devicePrefix: values['device-prefix'] ?? 'plant-',
    speed: values.speed === undefined || values.speed === 'max' ? Infinity : number('speed', values.speed, 1, 0.001),
    shift: values.shift === true,
    staggerMs: number('stagger-seconds', values['stagger-seconds'], 0, 0) * 1000,
    qos,
    inFlight: number('in-flight', values['in-flight'], 200, 1),
    server: values.server ?? 'mqtt://127.0.0.1:1883',
    http: values.http ?? 'http://127.0.0.1:8080',
    key: values.key,
    tokens: values.tokens === undefined ? [] : readFileSync(values.tokens, 'utf8').split('\n').filter(line => line !== ''),
    quiet: values.quiet === true
  }
  if (options.key === undefined && options.tokens.length < options.devices) throw new Error('give --key, or --tokens with a token for each device')
  return options
}
