/**
 * Numbered schema files, for every database alike: read, checked against what was applied before, and run in order. The
 * database's part (where the versions are kept, how a statement is run, who holds the lock) is the caller's.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TwinfoldError } from '../core/errors.js'

export interface MigrationFile {
  /** From the file's name, 1 to 9999. */
  readonly version: number
  /** The file's name. */
  readonly name: string
  /** Of the statements: comments and white space around them may be bettered later. */
  readonly checksum: string
  readonly statements: readonly string[]
}

export interface AppliedMigration {
  readonly version: number
  readonly name: string
  readonly checksum: string
}

export interface MigrateResult {
  /** Names of the files that were applied now. */
  readonly applied: readonly string[]
}

/** The folder of one database's files: `schemas/NAME` at the top of the project, seen from the sources or from dist/. */
export function schemaFolder (name: string): string {
  const top = import.meta.url.endsWith('.ts') ? '../../' : '../../../'
  return fileURLToPath(new URL(`${top}schemas/${name}`, import.meta.url))
}

/**
 * Splits a script into statements. `;` ends one; `--` and `//` begin a comment up to the end of the line, slash and star one up to star
 * and slash; quoted text ('…', "…", $$…$$, a quote doubled inside) is passed over. Statements come trimmed, without comments and
 * without the `;`.
 */
export function splitStatements (script: string): string[] {
  const token = /'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\$[\s\S]*?\$\$|(?:--|\/\/)[^\n]*|\/\*[\s\S]*?\*\/|;|[^'"$;/-]+|[\s\S]/g
  const statements: string[] = []
  let statement = ''
  for (const [text] of script.matchAll(token)) {
    if (text === ';') {
      statements.push(statement.trim())
      statement = ''
    } else {
      // A comment separates words as a space does.
      statement += /^(?:--|\/\/|\/\*)/.test(text) ? ' ' : text
    }
  }
  return [...statements, statement.trim()].filter(text => text !== '')
}

/**
 * The files `NNNN-name.EXTENSION` of a folder by number; other files are passed over.
 * @throws TwinfoldError `internal` where two have one number or one is empty.
 */
export function readMigrations (folder: string, extension: string): MigrationFile[] {
  const files = readdirSync(folder).filter(name => /^[0-9]{4}-/.test(name) && name.endsWith(`.${extension}`)).sort().map(name => {
    const statements = splitStatements(readFileSync(join(folder, name), 'utf8'))
    if (statements.length === 0) throw new TwinfoldError('internal', `${name} holds no statement`)
    return { version: Number(name.slice(0, 4)), name, checksum: createHash('sha256').update(statements.join(';')).digest('hex').slice(0, 32), statements }
  })
  for (let i = 1; i < files.length; i++) {
    if (files[i].version === files[i - 1].version) throw new TwinfoldError('internal', `${files[i - 1].name} and ${files[i].name} have one number`)
  }
  return files
}

/**
 * The files that are still to be applied, in order.
 * @throws TwinfoldError `format_newer` where a version was applied that no file has, `internal` where an applied file was changed since.
 */
export function pendingMigrations (files: readonly MigrationFile[], applied: readonly AppliedMigration[], database: string): MigrationFile[] {
  const known = new Map(files.map(file => [file.version, file]))
  const done = new Set<number>()
  for (const { version, name, checksum } of applied) {
    const file = known.get(version)
    if (file === undefined) {
      throw new TwinfoldError('format_newer', `the ${database} schema has version ${version} (${name}); this server knows up to ${Math.max(0, ...known.keys())}`)
    }
    if (file.checksum !== checksum) throw new TwinfoldError('internal', `${file.name} was changed after it had been applied as ${name}; put it back and add a new file`)
    done.add(version)
  }
  return files.filter(file => !done.has(file.version))
}
