/** Runs the sections of a bench one after the other and writes the report after each. */
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseBenchArguments, type BenchContext, type Row } from './bench-context.js'
import { printRows, writeReport } from './report.js'

export type Section = (context: BenchContext) => Promise<Row[]>

export interface SectionRun {
  /** Runs those that were asked for. False when one of them failed: the others still count. */
  run(sections: Readonly<Record<string, Section>>): Promise<boolean>
}

/** @throws Error that names a wrong argument. @param names of the sections there are */
export function planSections (args: readonly string[], jsonFallback: string, names: readonly string[]): SectionRun {
  const { only, jsonFile, ...given } = parseBenchArguments(args, jsonFallback)
  const context: BenchContext = { ...given, root: resolve(given.root) }
  const unknown = only.filter(name => !names.includes(name))
  if (unknown.length > 0) throw new Error(`no such section: ${unknown.join(', ')}; there are ${names.join(', ')}`)
  return {
    run: async sections => {
      await mkdir(context.root, { recursive: true })
      const startedAt = new Date()
      const rows: Row[] = []
      let failed = false
      for (const [name, section] of Object.entries(sections)) {
        if (only.length > 0 && !only.includes(name)) continue
        context.log(`section ${name}`)
        try {
          const found = await section(context)
          printRows(found)
          rows.push(...found)
        } catch (error) {
          failed = true
          context.log(`section ${name} failed: ${String((error as Error).stack)}`)
        }
        await writeReport(jsonFile, rows, startedAt)
      }
      context.log(`written to ${jsonFile}`)
      return !failed
    }
  }
}
