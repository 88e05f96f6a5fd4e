/**
 * The engine of chdb inside its own process: requests in, bytes out. Every request has a session of its own (0.2 ms), so that no
 * setting, parameter or database of one is ever seen by another; inserts run one after the other beside a few other statements.
 *
 * The engine ends the whole process when a connection is closed under a running query, so a session is closed only once its
 * query has answered, and the process is ended rather than the engine closed.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { insertFromFile, literal, quotedName, secondStatement } from './engine-sql.js'

/** As chdb has it: the package is optional, and so are its types. */
export interface EngineSession {
  queryAsync (sql: string, options: { format: string }): Promise<{ bytes (): Uint8Array, readonly rowsRead?: number, readonly bytesRead?: number, readonly elapsed?: number }>
  close (): void
}

export type OpenSession = () => EngineSession

export interface EngineRequest {
  readonly query: string
  /** An insert's data; empty for other statements. */
  readonly body: Buffer
  readonly database: string
  readonly format: string
  readonly settings: readonly (readonly [name: string, value: string])[]
  /** Names without `param_`. */
  readonly parameters: readonly (readonly [name: string, value: string])[]
}

export interface EngineAnswer {
  readonly bytes: Uint8Array
  readonly rowsRead: number
  readonly bytesRead: number
  readonly elapsedS: number
  readonly isInsert: boolean
}

/** An exception of the engine or of its face, with ClickHouse's number. */
export class EngineError extends Error {
  readonly code: number

  constructor (code: number, name: string, text: string) {
    super(`Code: ${code}. DB::Exception: ${text}. (${name})`)
    this.code = code
  }
}

/** Statements that are not inserts at once, and requests that may wait; one more gets code 202. */
const statementsAtOnce = 3
const waitingMax = 256

export interface EngineFiles {
  /** Puts an insert's data where the engine can read it. */
  write (body: Buffer): Promise<string>
  remove (file: string): void
}

export class Engine {
  readonly #open: OpenSession
  readonly #files: EngineFiles
  readonly #inserts = new Lane(1)
  readonly #statements = new Lane(statementsAtOnce)

  constructor (open: OpenSession, files: EngineFiles) {
    this.#open = open
    this.#files = files
  }

  /** @throws EngineError, or the engine's own with `Code: N.` in its text. */
  async run (request: EngineRequest): Promise<EngineAnswer> {
    const insert = request.body.length > 0 && request.query !== '' ? insertFromFile(request.query) : null
    if (insert !== null) {
      return await this.#inserts.run(async () => {
        const file = await this.#files.write(request.body)
        try {
          return await this.#execute(request, insert(file), true)
        } finally {
          this.#files.remove(file)
        }
      })
    }
    const sql = [request.query, request.body.toString('utf8')].filter(part => part !== '').join('\n')
    if (sql.trim() === '') throw new EngineError(62, 'SYNTAX_ERROR', 'Syntax error: Empty query')
    const second = secondStatement(sql)
    if (second !== null) throw new EngineError(62, 'SYNTAX_ERROR', `Syntax error (Multi-statements are not allowed): failed at position ${second + 1} (end of query)`)
    return await this.#statements.run(async () => await this.#execute(request, sql, /^\s*INSERT\b/i.test(sql)))
  }

  async #execute ({ database, format, settings, parameters }: EngineRequest, sql: string, isInsert: boolean): Promise<EngineAnswer> {
    const before = database === 'default' ? [] : [`USE ${quotedName(database)}`]
    for (const [name, value] of settings) before.push(`SET ${name} = ${/^-?\d+(\.\d+)?$/.test(value) ? value : literal(value)}`)
    for (const [name, value] of parameters) before.push(`SET param_${name} = ${literal(value)}`)
    const session = this.#open()
    try {
      if (before.length > 0) await session.queryAsync(before.join(';'), { format })
      const result = await session.queryAsync(sql, { format })
      return { bytes: result.bytes(), rowsRead: result.rowsRead ?? 0, bytesRead: result.bytesRead ?? 0, elapsedS: result.elapsed ?? 0, isInsert }
    } finally {
      session.close()
    }
  }
}

/** So many at once, the others in the order they came. */
class Lane {
  readonly #atOnce: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor (atOnce: number) {
    this.#atOnce = atOnce
  }

  async run<T> (work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#atOnce) {
      if (this.#waiting.length >= waitingMax) throw new EngineError(202, 'TOO_MANY_SIMULTANEOUS_QUERIES', `Too many simultaneous queries: ${waitingMax} are waiting`)
      await new Promise<void>(resolve => { this.#waiting.push(resolve) })
    } else {
      this.#running++
    }
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      // A waiting one takes the place over.
      if (next === undefined) this.#running--
      else next()
    }
  }
}

/** @throws TwinfoldError `analytics_unavailable` where chdb is not installed or not made for this platform. */
export async function loadEngine (path: string, engineArguments: readonly string[]): Promise<OpenSession> {
  interface Chdb { readonly Session: new (path: string, options: { connectionArgs: readonly string[] }) => EngineSession }
  let chdb: Chdb
  try {
    // The name in a variable: an installation without the package, and without its types, is one that works.
    const name = 'chdb'
    chdb = await import(name) as Chdb
  } catch (error) {
    throw new TwinfoldError('analytics_unavailable', `chdb is not installed, or not made for this platform (${(error as Error).message.split('\n')[0]})`, { cause: error })
  }
  return () => new chdb.Session(path, { connectionArgs: engineArguments })
}
