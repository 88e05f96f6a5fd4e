/** The report of a bench: a table for people, a file for machines, and the machine it ran on. */
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { dirname } from 'node:path'
import type { Row } from './bench-context.js'

function shown (value: number | string): string {
  if (typeof value === 'string') return value
  if (Number.isInteger(value)) return value.toLocaleString('en-US')
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3)
}

export function printRows (rows: readonly Row[]): void {
  for (const { section, what, figures } of rows) {
    const cells = Object.entries(figures).map(([name, value]) => `${name} ${shown(value)}`)
    process.stdout.write(`${section.padEnd(9)} ${what.padEnd(36)} ${cells.join(' | ')}\n`)
  }
}

export async function writeReport (file: string, rows: readonly Row[], startedAt: Date): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  const machine = { node: process.version, cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, memoryBytes: totalmem() }
  await writeFile(file, `${JSON.stringify({ startedAt: startedAt.toISOString(), finishedAt: new Date().toISOString(), machine, rows }, null, 2)}\n`)
}
