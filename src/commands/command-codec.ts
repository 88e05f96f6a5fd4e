/** How commands and their books are stored: JSON with a format number. A newer one is refused by name, never guessed at. */
import { TwinfoldError } from '../core/errors.js'
import type { Command } from './command.js'
import type { Told } from './reduce-command.js'

const format = 1

/** The state of a device's book. Its items are the commands. */
export interface BookState {
  readonly pending: number
  readonly finished: number
  /** The minute in which the deadline index names this book; 0: none. */
  readonly lookAtMinute: number
  /** Highest position of an answer applied, by journal; the newest `journalsMax`. */
  readonly positions: Readonly<Record<string, number>>
  /** What the last commit told, in order of number, so that another node can tell it again. */
  readonly last: readonly { readonly number: number, readonly id: string, readonly told: Told, readonly at: number }[]
}

export const emptyBookState: BookState = { pending: 0, finished: 0, lookAtMinute: 0, positions: {}, last: [] }

/** A key of a request, and the command that came of it. */
export interface KeyRecord { readonly id: string, readonly fingerprint: string, readonly createdAt: number }

function parse<T> (body: string, what: string): T {
  const { format: found, ...value } = JSON.parse(body) as { format: number }
  if (found !== format) throw new TwinfoldError('format_newer', `${what} is of format ${found}; this server knows ${format}`)
  return value as unknown as T
}

export function encodeCommand (command: Command): string {
  return JSON.stringify({ format, ...command })
}

/** @throws TwinfoldError `format_newer` */
export function decodeCommand (body: string): Command {
  return parse<Command>(body, 'a command')
}

export function encodeBookState (state: BookState): string {
  return JSON.stringify({ format, ...state })
}

/** @throws TwinfoldError `format_newer` */
export function decodeBookState (body: string): BookState {
  return parse<BookState>(body, 'a book of commands')
}

export function encodeKeyRecord (record: KeyRecord): string {
  return JSON.stringify({ format, ...record })
}

/** @throws TwinfoldError `format_newer` */
export function decodeKeyRecord (body: string): KeyRecord {
  return parse<KeyRecord>(body, 'a key of a command')
}
