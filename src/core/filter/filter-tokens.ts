/** Cuts the text of a filter into words, values and signs, each with its place. Pure; knows no field and no operator. */
import { TwinfoldError } from '../errors.js'
import { parseIsoTime } from '../iso-time.js'
import { usPerDay, usPerHour, usPerMinute, usPerSecond } from '../reading.js'
import { wellFormed } from './well-formed.js'

export type FilterToken = { readonly at: number, readonly text: string } & (
  | { readonly kind: 'sign' | 'end' }
  /** A name with what follows it by dots and brackets. `quoted`: a key that stood in quotes, so that it is no keyword. */
  | { readonly kind: 'path', readonly keys: readonly string[], readonly quoted: boolean }
  | { readonly kind: 'string', readonly value: string }
  | { readonly kind: 'number', readonly value: number }
  | { readonly kind: 'time', readonly us: number }
  | { readonly kind: 'now', readonly offsetUs: number })

const blank = /[ \t\r\n]+/y
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y
const date = /[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.,]+(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?/y
const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const now = /now(?:([+-])([0-9]{1,9})([smhdw]))?(?![A-Za-z0-9_.[`])/y
const firstKey = /[A-Za-z_][A-Za-z0-9_]*/y
const nextKey = /\.([A-Za-z0-9_$@:/-]+)/y
const backticks = /\.`((?:[^`]|``)+)`/y
const bracket = /\[("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")\]/y
const unitUs: Readonly<Record<string, number>> = { s: usPerSecond, m: usPerMinute, h: usPerHour, d: usPerDay, w: 7 * usPerDay }

export function filterError (field: string, at: number, what: string): TwinfoldError {
  return new TwinfoldError('invalid_field', `'${field}' at character ${at + 1}: ${what}`, { field })
}

/** In order, the last one of kind `end`. @throws TwinfoldError `invalid_field` with the place of what is no token */
export function filterTokens (text: string, field: string): FilterToken[] {
  const tokens: FilterToken[] = []
  let at = 0
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    return pattern.exec(text)
  }
  while (at < text.length) {
    at += match(blank)?.[0].length ?? 0
    if (at >= text.length) break
    const token = readToken(text, at, match, field)
    tokens.push(token)
    at += token.text.length
  }
  return [...tokens, { kind: 'end', at: text.length, text: '' }]
}

function readToken (text: string, at: number, match: (pattern: RegExp) => RegExpExecArray | null, field: string): FilterToken {
  const sign = text[at]
  if (sign === '(' || sign === ')' || sign === ',') return { kind: 'sign', at, text: sign }
  const quoted = match(string)
  if (quoted !== null) return { kind: 'string', at, text: quoted[0], value: wellFormed(JSON.parse(quoted[0]) as string) }
  if (sign === '"') throw filterError(field, at, 'expected a string as in JSON, with its closing quote')
  const time = match(date)
  if (time !== null) {
    const us = parseIsoTime(time[0])
    if (us === null) throw filterError(field, at, 'expected an ISO 8601 time such as 2026-01-31T12:00:00Z')
    return { kind: 'time', at, text: time[0], us }
  }
  const digits = match(number)
  if (digits !== null) {
    // Adding 0 makes one of the two zeros.
    const value = Number(digits[0]) + 0
    if (!Number.isFinite(value)) throw filterError(field, at, 'expected a number that fits a double')
    return { kind: 'number', at, text: digits[0], value }
  }
  const relative = match(now)
  if (relative !== null) {
    const [, way, count, unit] = relative
    return { kind: 'now', at, text: relative[0], offsetUs: way === undefined ? 0 : (way === '-' ? -1 : 1) * Number(count) * unitUs[unit] + 0 }
  }
  return readPath(text, at, field)
}

function readPath (text: string, from: number, field: string): FilterToken {
  let at = from
  let quoted = false
  const keys: string[] = []
  const take = (pattern: RegExp, group: number): string | null => {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (found === null) return null
    at += found[0].length
    return found[group]
  }
  const first = take(firstKey, 0)
  if (first === null) throw filterError(field, at, `expected a field, a value or an operator, but found '${String.fromCodePoint(text.codePointAt(at) as number)}'`)
  keys.push(first)
  for (;;) {
    const plain = take(nextKey, 1)
    if (plain !== null) { keys.push(plain); continue }
    const inTicks = take(backticks, 1)
    const inBracket = inTicks === null ? take(bracket, 1) : null
    if (inTicks === null && inBracket === null) break
    quoted = true
    keys.push(wellFormed(inTicks === null ? JSON.parse(inBracket as string) as string : inTicks.replaceAll('``', '`')))
  }
  if (text[at] === '.' || text[at] === '[' || text[at] === '`') throw filterError(field, at, 'expected a key: .key, .`any key` or ["any key"]')
  return { kind: 'path', at: from, text: text.slice(from, at), keys, quoted }
}
