/**
 * The readings of a real thermal solar plant (solar-plant/LICENSE.md), from monthly CSV files. Every cell is sent as it
 * stands in the file: a number keeps its text (so that 20.0 is the double 20), and the damaged cell of June 2017 stays a
 * string, because a store must keep what real devices send.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

export interface SolarReading {
  /** Milliseconds since the epoch. */
  readonly tsMs: number
  /** The values as a JSON object, `{"collector_temp_1":18.7,…}`. */
  readonly valuesJson: string
}

/** A JSON number (RFC 8259, section 6) without exponent; anything else in a cell is sent as a string. */
const numberPattern = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$/
const monthFilePattern = /^[0-9]{4}-[0-9]{2}\.csv(?:\.gz)?$/

/** The files of the month that comes with the project. Works from the sources and from the built tree. */
export function bundledMonths (): string[] {
  const beside = fileURLToPath(new URL('./solar-plant/', import.meta.url))
  const directory = existsSync(beside) ? beside : fileURLToPath(new URL('../../simulators/solar-plant/', import.meta.url))
  return monthFiles(directory)
}

/**
 * The monthly files of a directory, in the order of time: `2017-06.csv` or `2017-06.csv.gz`.
 * @param months only these, as in `2017-06`; all when empty
 * @throws Error when there are none
 */
export function monthFiles (directory: string, months: readonly string[] = []): string[] {
  const files = readdirSync(directory).filter(name => monthFilePattern.test(name) && (months.length === 0 || months.includes(name.slice(0, 7)))).sort()
  if (files.length === 0) throw new Error(`no monthly files (as in 2017-06.csv.gz) in ${directory}`)
  return files.map(name => join(directory, name))
}

/** The readings of the files, one file in memory at a time. Empty cells are left out. */
export function * solarReadings (files: readonly string[]): Generator<SolarReading, void, undefined> {
  for (const file of files) {
    const bytes = readFileSync(file)
    const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
    const lines = text.split('\n')
    const members = lines[0].trimEnd().split(',').map(name => `${JSON.stringify(name)}:`)
    if (members[0] !== '"ts":') throw new Error(`${file}: the first column must be ts`)
    for (let i = 1; i < lines.length; i++) {
      if (lines[i] !== '') yield readLine(lines[i], members, `${file}:${i + 1}`)
    }
  }
}

function readLine (line: string, members: readonly string[], where: string): SolarReading {
  const cells = line.split(',')
  const tsMs = Date.parse(cells[0])
  if (Number.isNaN(tsMs)) throw new Error(`${where}: no timestamp`)
  if (cells.length !== members.length) throw new Error(`${where}: ${cells.length} cells instead of ${members.length}`)
  let valuesJson = '{'
  for (let column = 1; column < cells.length; column++) {
    const cell = cells[column]
    if (cell === '') continue
    valuesJson += `${valuesJson.length > 1 ? ',' : ''}${members[column]}${numberPattern.test(cell) ? cell : JSON.stringify(cell)}`
  }
  return { tsMs, valuesJson: `${valuesJson}}` }
}

/** A reading as the body of one message (DESIGN 4.1). @param shiftMs added to the timestamp */
export function solarMessage (reading: SolarReading, shiftMs = 0): string {
  return `{"ts":${reading.tsMs + shiftMs},"values":${reading.valuesJson}}`
}
