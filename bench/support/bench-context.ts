/** What every section of a bench is given, and what it hands back. */
import { parseArgs } from 'node:util'

export interface BenchContext {
  /** Directory under which servers get their data: on the disk that is to be measured. */
  readonly root: string
  /** Shorter, for a look rather than a result. */
  readonly quick: boolean
  readonly rounds: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Solar months, for `solar`; undefined: the bundled one. */
  readonly data: string | undefined
  readonly log: (line: string) => void
}

/** One line of the report. */
export interface Row {
  readonly section: string
  readonly what: string
  readonly figures: Readonly<Record<string, number | string>>
}

export interface BenchArguments extends BenchContext {
  readonly only: readonly string[]
  readonly jsonFile: string
}

/** @throws Error that names a wrong argument. */
export function parseBenchArguments (args: readonly string[], jsonFallback: string): BenchArguments {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' }, json: { type: 'string' }, quick: { type: 'boolean' }, rounds: { type: 'string' }, seconds: { type: 'string' }, root: { type: 'string' }, data: { type: 'string' }
    }
  })
  const quick = values.quick === true
  return {
    root: values.root ?? '.cache',
    quick,
    rounds: Number(values.rounds ?? (quick ? 2 : 5)),
    seconds: Number(values.seconds ?? (quick ? 3 : 8)),
    warmUpSeconds: quick ? 1 : 3,
    data: values.data,
    only: values.only?.split(',') ?? [],
    jsonFile: values.json ?? jsonFallback,
    log: line => { process.stderr.write(`${line}\n`) }
  }
}
