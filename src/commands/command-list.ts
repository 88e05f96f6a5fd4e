/** Pages of a device's commands, newest first, pending and finished together; and the removal of finished ones that are kept no longer. */
import type { EntityStore } from '../store/entity-store.js'
import { bookKey } from './book.js'
import type { BookKeeper } from './book-keeper.js'
import { stateOf, type Command } from './command.js'
import { decodeCommand } from './command-codec.js'
import { createdAtOf, finishedBefore, finishedItem, finishedPrefix } from './command-id.js'
import type { CommandPage, CommandQuery } from './commands.js'

/** Finished commands kept of a device, newest first; and for how long. */
export const finishedMax = 1000
export const finishedKeptUs = 30 * 24 * 3600e6
/** A command with a key is kept this long, whatever else; with more of them than this, new commands are refused. */
export const keysKeptUs = 24 * 3600e6
export const finishedHardMax = 5000
/** More than `finishedMax` by this many: then the oldest are taken away. */
export const trimSlack = 100

const page = 50
const trimmedMax = 200
/** Finished commands that one page of a filtered list looks at. */
const scannedMax = 1000

/** Finished commands behind an item, newest first, of the device as it is stored. */
async function * finishedAfter (store: EntityStore, tenant: string, device: string, after: string): AsyncGenerator<Command> {
  for (let at = after; ;) {
    const items = await store.readEntityItems(bookKey(tenant, device), finishedPrefix, at, page)
    for (const { body } of items) yield decodeCommand(body)
    if (items.length < page) return
    at = items[items.length - 1].id
  }
}

/** @param pending of the device, read before the call */
export async function listCommands (store: EntityStore, tenant: string, device: string, pending: Iterable<Command>, query: CommandQuery, nowUs: number): Promise<CommandPage> {
  const { before, limit } = query
  const matches = (command: Command): boolean => (query.state === null || stateOf(command) === query.state) && (query.name === null || command.name === query.name)
  const open = [...pending].filter(({ id }) => before === null || id < before).sort((a, b) => a.id < b.id ? 1 : -1)
  const found: Command[] = []
  let scanned = 0
  let last = before
  const take = (command: Command): boolean => {
    last = command.id
    if (matches(command)) found.push(command)
    return found.length < limit && ++scanned < scannedMax
  }
  for await (const command of finishedAfter(store, tenant, device, before === null ? '' : finishedItem(before))) {
    if (createdAtOf(command.id) < nowUs - finishedKeptUs) break
    while (open.length > 0 && open[0].id >= command.id) {
      const next = open.shift() as Command
      // It came to its end while the page was read.
      if (next.id !== command.id && !take(next)) return { commands: found, next: last }
    }
    if (!take(command)) return { commands: found, next: last }
  }
  for (const command of open) if (!take(command)) return { commands: found, next: last }
  return { commands: found, next: null }
}

function mayGo ({ id, key }: Command, nowUs: number): boolean {
  return key === '' || createdAtOf(id) < nowUs - keysKeptUs
}

/** Takes away what is too old or too many, some at a time. False: there was nothing. */
export async function trimFinished (store: EntityStore, keeper: BookKeeper, tenant: string, device: string, nowUs: number): Promise<boolean> {
  const gone = new Map<string, Command>()
  let index = 0
  for await (const command of finishedAfter(store, tenant, device, '')) {
    if (++index > finishedMax && mayGo(command, nowUs)) gone.set(command.id, command)
    if (gone.size >= trimmedMax) break
  }
  for await (const command of finishedAfter(store, tenant, device, finishedBefore(nowUs - finishedKeptUs))) {
    if (gone.size >= trimmedMax) break
    gone.set(command.id, command)
  }
  if (gone.size === 0) return false
  await keeper.apply(tenant, device, {
    ids: [...gone.keys()],
    keys: [...gone.values()].flatMap(({ key }) => key === '' ? [] : [key]),
    sync: false,
    run: draft => {
      for (const id of gone.keys()) {
        const command = draft.command(id)
        if (command !== undefined && !draft.pending.has(id)) draft.forget(command)
      }
    }
  })
  return true
}
