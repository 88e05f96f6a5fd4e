/** Which windows there are on disk, and making them durable, dropping them, and weighing them. */
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { TwinfoldError } from '../../core/errors.js'
import { databaseExists } from './level.js'
import { entitiesName, idempotencyName, metaName, outboxName, parseClassName, parseWindowName, rawName, seenName, tierNames, trashName, trashPrefix } from './filenames.js'

export interface StoredWindow {
  readonly retentionDays: number
  /** µs */
  readonly start: number
  /** Inside the store's directory. */
  readonly path: string
}

/** Names in a directory; none where it does not exist. */
async function namesIn (directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENOTDIR') return []
    throw new TwinfoldError('store_unavailable', `the store's directory cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/** Families of databases that lie in windows by retention class. */
export type WindowFamily = typeof rawName | typeof seenName | typeof tierNames[keyof typeof tierNames]
const families: readonly WindowFamily[] = [rawName, seenName, ...Object.values(tierNames)]

/** Windows of a family, ascending by class and start. Lists directories and opens nothing. */
export async function listWindows (directory: string, family: WindowFamily, classes?: readonly number[]): Promise<StoredWindow[]> {
  const wanted = classes ?? (await namesIn(join(directory, family))).flatMap(name => parseClassName(name) ?? [])
  const windows: StoredWindow[] = []
  for (const retentionDays of [...new Set(wanted)].sort((a, b) => a - b)) windows.push(...await listClass(directory, family, retentionDays))
  return windows
}

export const classPath = (family: WindowFamily, retentionDays: number): string => `${family}/r${retentionDays}`

/** Windows of one class, ascending by start. */
export async function listClass (directory: string, family: WindowFamily, retentionDays: number): Promise<StoredWindow[]> {
  const parent = classPath(family, retentionDays)
  const windows = (await namesIn(join(directory, parent))).flatMap(name => {
    const start = parseWindowName(name)
    return start === null ? [] : [{ retentionDays, start, path: `${parent}/${name}` }]
  })
  return windows.sort((a, b) => a.start - b.start)
}

/** Retention classes that have raw windows. */
export async function rawClasses (directory: string): Promise<number[]> {
  return (await namesIn(join(directory, rawName))).flatMap(name => parseClassName(name) ?? [])
}

/** Starts of the idempotency windows, newest first. */
export async function listIdempotencyWindows (directory: string): Promise<{ start: number, path: string }[]> {
  return await windowsByTime(directory, idempotencyName)
}

/** Days of the outbox, newest first. */
export async function listOutboxWindows (directory: string): Promise<{ start: number, path: string }[]> {
  return await windowsByTime(directory, outboxName)
}

async function windowsByTime (directory: string, family: string): Promise<{ start: number, path: string }[]> {
  const windows = (await namesIn(join(directory, family))).flatMap(name => {
    const start = parseWindowName(name)
    return start === null ? [] : [{ start, path: `${family}/${name}` }]
  })
  return windows.sort((a, b) => b.start - a.start)
}

/** Every database of the store. */
export async function listDatabases (directory: string): Promise<string[]> {
  const windows: { readonly path: string }[] = []
  for (const family of families) windows.push(...await listWindows(directory, family))
  windows.push(...await listIdempotencyWindows(directory), ...await listOutboxWindows(directory))
  return [metaName, entitiesName, ...windows.map(window => window.path)].filter(path => databaseExists(directory, path))
}

/**
 * Takes a database away whose handles are closed: the rename is atomic, so that a stop in the middle leaves either all of it
 * or a trash directory.
 */
export async function dropDatabase (directory: string, path: string): Promise<void> {
  const trash = join(directory, trashName(path))
  await rm(trash, { recursive: true, force: true })
  await rename(join(directory, path), trash)
  await rm(trash, { recursive: true, force: true })
}

/** Removes what an interrupted drop has left. */
export async function emptyTrash (directory: string): Promise<void> {
  for (const name of await namesIn(directory)) {
    if (name.startsWith(trashPrefix)) await rm(join(directory, name), { recursive: true, force: true })
  }
}

/** Bytes of all files under the directory. A file that vanishes meanwhile counts nothing. */
export async function bytesUnder (directory: string): Promise<number> {
  let bytes = 0
  for (const name of await namesIn(directory)) {
    const status = await stat(join(directory, name)).catch(() => null)
    if (status !== null) bytes += status.isDirectory() ? await bytesUnder(join(directory, name)) : status.size
  }
  return bytes
}

/**
 * Makes the databases durable without forcing LevelDB to write small table files: what it acknowledged is in its log files
 * (in the page cache) or in tables, which it syncs itself before it deletes their log. So syncing every log file that has
 * changed since the last time is enough. A sync write would not be: it syncs the current log, not the one before it.
 *
 * It looks at all databases, whoever wrote to them, an earlier process included.
 */
export class LogSyncer {
  readonly #directory: string
  /** Name, size and mtime of a database's logs when they were synced last. Bounded by the number of databases. */
  readonly #synced = new Map<string, string>()
  /** Databases whose last sync failed. */
  readonly #failed = new Set<string>()

  readonly #syncPath: (path: string) => Promise<void>

  /** @param syncFile brings a file or directory to stable storage; none is fine where it does not exist any more. */
  constructor (directory: string, syncFile = syncPath) {
    this.#directory = directory
    this.#syncPath = syncFile
  }

  /**
   * @param rescue called for a database whose logs could not be synced once: must bring what it holds in memory to stable
   * storage by other means, because a sync after a failed one proves nothing.
   * @throws TwinfoldError `store_unavailable`; nothing is known to be durable then.
   */
  async sync (rescue: (path: string) => Promise<void>): Promise<void> {
    const paths = await listDatabases(this.#directory)
    const parents = new Set<string>()
    for (const path of paths) {
      if (this.#failed.has(path)) await this.#rescue(path, rescue)
      await this.#syncLogs(path, parents)
    }
    for (const parent of parents) await this.#syncPath(join(this.#directory, parent))
    const kept = new Set(paths)
    for (const path of this.#synced.keys()) if (!kept.has(path)) this.#synced.delete(path)
  }

  async #rescue (path: string, rescue: (path: string) => Promise<void>): Promise<void> {
    const logsOf = async (): Promise<string[]> => (await namesIn(join(this.#directory, path))).filter(name => name.endsWith('.log'))
    const before = await logsOf()
    await rescue(path)
    const after = new Set(await logsOf())
    if (before.some(name => after.has(name))) throw new TwinfoldError('store_unavailable', `the logs of ${path} could not be synced, nor replaced by tables`)
    this.#failed.delete(path)
  }

  async #syncLogs (path: string, parents: Set<string>): Promise<void> {
    const directory = join(this.#directory, path)
    const logs: string[] = []
    let signature = ''
    for (const name of await namesIn(directory)) {
      if (!name.endsWith('.log')) continue
      const status = await stat(join(directory, name)).catch(() => null)
      // Gone: its rows are in a synced table now.
      if (status === null) continue
      logs.push(name)
      signature += `${name}:${status.size}:${status.mtimeMs};`
    }
    if (this.#synced.get(path) === signature) return
    try {
      for (const name of logs) await this.#syncPath(join(directory, name))
      await this.#syncPath(directory)
    } catch (error) {
      this.#failed.add(path)
      throw error
    }
    if (!this.#synced.has(path)) {
      for (let parent = path; parent !== '.'; ) {
        parent = parent.includes('/') ? parent.slice(0, parent.lastIndexOf('/')) : '.'
        parents.add(parent)
      }
    }
    this.#synced.set(path, signature)
  }
}

async function syncPath (path: string): Promise<void> {
  let file
  try {
    file = await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw new TwinfoldError('store_unavailable', `${path} cannot be opened: ${(error as Error).message}`, { cause: error })
  }
  try {
    await file.sync()
  } catch (error) {
    throw new TwinfoldError('store_unavailable', `${path} cannot be synced: ${(error as Error).message}`, { cause: error })
  } finally {
    await file.close()
  }
}
