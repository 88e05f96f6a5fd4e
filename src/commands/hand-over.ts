/** Which commands a device is given next, and the change that says so. Pure. */
import type { BookDraft } from './book.js'
import type { Command } from './command.js'

export interface HandOver {
  readonly connection: string
  readonly via: 'mqtt' | 'http'
  readonly limit: number
  /** May the device be given it on this connection: it subscribes to its topic, and no other open connection has it. */
  readonly wanted: (command: Command) => boolean
  /** Commands that were sent before on connections that are gone: with retries left they are sent again. null: none. */
  readonly again: (id: string) => boolean
}

/** Higher priority first, then older; ids sort by age. */
export function inOrder (a: Command, b: Command): number {
  return b.priority - a.priority || (a.id < b.id ? -1 : 1)
}

function maySend (command: Command, { connection, wanted, again }: HandOver, nowUs: number): boolean {
  if (nowUs >= command.expiresAt || !wanted(command)) return false
  if (command.attempts.length === 0) return true
  if (command.attempts.length > command.retries || command.attempts.some(attempt => attempt.deliveredAt !== null || attempt.connection === connection)) return false
  return again(command.id)
}

/** Pending commands that may be handed over now, first ones first. */
export function nextCommands (pending: Iterable<Command>, handOver: HandOver, nowUs: number): Command[] {
  return [...pending].filter(command => maySend(command, handOver, nowUs)).sort(inOrder).slice(0, handOver.limit)
}

/** Marks them as sent; the commands as they are then. To be committed before anything is handed over (INVARIANTS 6). */
export function markSent (draft: BookDraft, handOver: HandOver): Command[] {
  return nextCommands(draft.pending.values(), handOver, draft.nowUs).flatMap(({ id }) => {
    const reduced = draft.change(id, { kind: 'sent', at: draft.nowUs, connection: handOver.connection, via: handOver.via })
    return reduced.kind === 'changed' ? [reduced.command] : []
  })
}

/** What a device is sent: the bare payload as JSON, or with the deadline in ms beside it where the command asks for that. */
export function messageOf ({ payload, envelope, expiresAt }: Command): Uint8Array {
  if (envelope) return Buffer.from(JSON.stringify({ payload: payload ?? null, expiresAt: Math.floor(expiresAt / 1000) }))
  return payload === undefined ? new Uint8Array(0) : Buffer.from(JSON.stringify(payload))
}

export function requestTopic (device: string, { name, id }: Command): string {
  return `devices/${device}/commands/${name}/request/${id}`
}
