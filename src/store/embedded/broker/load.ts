/** Opening: the database, its format, and one pass over its small rows. No payload is read. */
import { ClassicLevel } from 'classic-level'
import { TwinfoldError } from '../../../core/errors.js'
import { decodeOptions, decodePair, decodeReference } from '../../broker/codec.js'
import type { IncomingMessages } from './incoming.js'
import { clientIdOf, filterOf, formatKey, messageIdOf, messageKey, numberOf, runKey, tableRange, tags, textOf } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import type { OutgoingQueues } from './outgoing.js'
import { Session, type SessionTable } from './sessions.js'
import type { Wills } from './wills.js'
import { del, type BrokerDatabase, type WriteOperation } from './writer.js'

/** Written into a new database. An older one is upgraded, a newer one refused. */
export const brokerFormatVersion = 1

const pageRows = 1000

/**
 * Opens or makes the database. `format_newer` and `corrupt_data` name the directory; `store_unavailable` where it
 * cannot be opened (another process has it, or the disk refuses).
 */
export async function openDatabase (directory: string): Promise<BrokerDatabase> {
  const database: BrokerDatabase = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  try {
    await database.open()
  } catch (cause) {
    throw new TwinfoldError('store_unavailable', `the broker database in ${directory} cannot be opened`, { cause })
  }
  try {
    await checkFormat(database, directory)
  } catch (error) {
    await database.close()
    throw error
  }
  return database
}

async function checkFormat (database: BrokerDatabase, directory: string): Promise<void> {
  const stored = await database.get(formatKey)
  if (stored === undefined) {
    const [first] = await database.keys({ limit: 1 }).all()
    if (first !== undefined) throw new TwinfoldError('corrupt_data', `the broker database in ${directory} has no format version`)
    await database.put(formatKey, Buffer.from(String(brokerFormatVersion)), { sync: true })
    return
  }
  const version = Number(stored.toString('latin1'))
  if (!Number.isInteger(version) || version < 1) {
    throw new TwinfoldError('corrupt_data', `the broker database in ${directory} has a damaged format version`)
  }
  if (version > brokerFormatVersion) {
    throw new TwinfoldError('format_newer', `the broker database in ${directory} has format ${version}; this version of Twinfold reads formats up to ${brokerFormatVersion}`)
  }
}

/** Counts this opening and returns its number, from 1. */
export async function countRun (database: BrokerDatabase): Promise<number> {
  const run = 1 + Number((await database.get(runKey))?.toString('latin1') ?? 0)
  await database.put(runKey, Buffer.from(String(run)), { sync: true })
  return run
}

export interface LoadTargets {
  readonly ledger: Ledger
  readonly sessions: SessionTable
  readonly outgoing: OutgoingQueues
  readonly incoming: IncomingMessages
  readonly wills: Wills
}

/** Fills the tables, and removes rows of sessions whose removal a crash cut short. Cost is by rows, retained messages excepted. */
export async function load (database: BrokerDatabase, targets: LoadTargets): Promise<void> {
  const { ledger, sessions, outgoing, incoming, wills } = targets
  const leftovers: WriteOperation[] = []
  await scan(database, tags.tenant, (key, value) => {
    const [count, bytes] = decodePair(value)
    ledger.add(textOf(key), 'retained', count)
    ledger.add(textOf(key), 'retainedBytes', bytes)
  })
  await scan(database, tags.session, (key, value) => {
    const [firstNumber, disconnectedAt] = decodePair(value)
    const session = new Session(textOf(key), firstNumber)
    session.disconnectedAt = disconnectedAt
    sessions.restore(session)
  })
  await scan(database, tags.subscription, (key, value) => {
    const session = sessions.get(clientIdOf(key))
    if (session === undefined) leftovers.push(del(key))
    else sessions.restoreSubscription(session, filterOf(key), decodeOptions(value))
  })
  const references = await loadReferences(database, targets, leftovers)
  const [lastMessage] = await database.keys({ ...tableRange(tags.message), reverse: true, limit: 1 }).all()
  outgoing.start(sessions, lastMessage === undefined ? 1 + references.last : 1 + Math.max(references.last, numberOf(lastMessage)), references.counts)
  await scan(database, tags.will, (key) => wills.restore(textOf(key)))
  await scan(database, tags.incoming, (key) => {
    if (sessions.get(clientIdOf(key)) === undefined) leftovers.push(del(key))
    else incoming.restore(clientIdOf(key), messageIdOf(key))
  })
  leftovers.push(...sessions.restored())
  if (leftovers.length > 0) await database.batch(leftovers, { sync: true })
}

async function loadReferences (database: BrokerDatabase, { ledger, sessions }: LoadTargets, leftovers: WriteOperation[]): Promise<{ counts: Map<number, number>, last: number }> {
  const counts = new Map<number, number>()
  /** Messages that a session had which has ended. */
  const given = new Set<number>()
  let last = 0
  await scan(database, tags.reference, (key, value) => {
    const clientId = clientIdOf(key)
    const number = numberOf(key)
    const reference = decodeReference(value)
    const session = sessions.get(clientId)
    last = Math.max(last, number)
    if (session === undefined || number < session.firstNumber) {
      leftovers.push(del(key))
      if (!reference.pubrel) given.add(number)
      return
    }
    session.queued++
    ledger.add(clientId, 'queued', 1)
    if (reference.pubrel) return
    session.queuedBytes += reference.size
    const before = counts.get(number) ?? 0
    counts.set(number, before + 1)
    if (before === 0) ledger.add(clientId, 'queuedBytes', reference.size)
  })
  for (const number of given) if (!counts.has(number)) leftovers.push(del(messageKey(number)))
  return { counts, last }
}

async function scan (database: BrokerDatabase, tag: number, each: (key: Buffer, value: Buffer) => void): Promise<void> {
  const iterator = database.iterator(tableRange(tag))
  try {
    for (let rows = await iterator.nextv(pageRows); rows.length > 0; rows = await iterator.nextv(pageRows)) {
      for (const [key, value] of rows) each(key, value)
    }
  } finally {
    await iterator.close()
  }
}

