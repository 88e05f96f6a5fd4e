/**
 * Tenant SQL cut into tokens and written anew from them, so that the engine reads exactly what was judged: comments go, text and quoted
 * names are decoded and encoded again, and a character whose meaning the two could see differently is refused. Pure.
 */
import { TwinfoldError } from '../../core/errors.js'

export type TokenKind = 'name' | 'quoted' | 'text' | 'number' | 'sign'

export interface Token {
  readonly kind: TokenKind
  /** A name or text as it is meant, without quotes. */
  readonly value: string
}

export const sqlCharsMax = 32 * 1024

export function refuseSql (what: string): never {
  throw new TwinfoldError('invalid_field', `'query' ${what}`, { field: 'query' })
}

const space = /[ \t\r\n]+/y
const lineComment = /--[^\n]*/y
const name = /[A-Za-z_][A-Za-z0-9_]*/y
const number = /(?:0x[0-9A-Fa-f]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])/y
const sign = /->|::|\|\||==|!=|<>|<=|>=|[()[\],.+\-*/%=<>?:;]/y
const escapes: Readonly<Record<string, string>> = { '\\': '\\', "'": "'", '"': '"', '`': '`', n: '\n', t: '\t', r: '\r' }

/** Reads what stands between quotes. Returns what it means, and where it ends. */
function readQuoted (sql: string, from: number): { value: string, end: number } {
  const quote = sql[from]
  let value = ''
  for (let at = from + 1; at < sql.length; at++) {
    const character = sql[at]
    if (character === '\\') {
      const meant = escapes[sql[++at] ?? '']
      if (meant === undefined) refuseSql(`has an escape at ${at} that is none of ${Object.keys(escapes).map(key => `\\${key}`).join(' ')}`)
      value += meant
    } else if (character === quote) {
      if (sql[at + 1] !== quote) return { value, end: at + 1 }
      value += quote
      at++
    } else {
      value += character
    }
  }
  return refuseSql(`has a quote at ${from} that is not closed`)
}

function match (pattern: RegExp, sql: string, at: number): string | null {
  pattern.lastIndex = at
  return pattern.exec(sql)?.[0] ?? null
}

/** @throws TwinfoldError `invalid_field` (`query`) */
export function tokensOf (sql: string): Token[] {
  if (sql.length > sqlCharsMax) refuseSql(`must have at most ${sqlCharsMax} characters`)
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(sql)) refuseSql('holds control characters')
  const tokens: Token[] = []
  for (let at = 0; at < sql.length;) {
    const skipped = match(space, sql, at) ?? match(lineComment, sql, at)
    if (skipped !== null) { at += skipped.length; continue }
    if (sql.startsWith('/*', at)) {
      const end = sql.indexOf('*/', at + 2)
      // Engines differ on comments inside comments.
      if (end === -1 || sql.slice(at + 2, end).includes('/*')) refuseSql(`has a comment at ${at} that does not end, or holds another`)
      at = end + 2
      continue
    }
    const character = sql[at]
    if (character === "'" || character === '"' || character === '`') {
      const { value, end } = readQuoted(sql, at)
      if (character !== "'" && !/^[A-Za-z0-9_ .:()%/-]{1,128}$/.test(value)) refuseSql(`has a quoted name at ${at} that is not 1 to 128 of A-Z a-z 0-9 _ . : ( ) % / - and spaces`)
      tokens.push({ kind: character === "'" ? 'text' : 'quoted', value })
      at = end
      continue
    }
    const word = match(name, sql, at)
    const found: Token | null = word !== null ? { kind: 'name', value: word } : readPlain(sql, at)
    if (found === null) return refuseSql(`has a character at ${at} that has no place here: ${JSON.stringify(character)}`)
    tokens.push(found)
    at += found.value.length
  }
  return tokens
}

function readPlain (sql: string, at: number): Token | null {
  const digits = match(number, sql, at)
  if (digits !== null) return { kind: 'number', value: digits }
  const found = match(sign, sql, at)
  return found === null ? null : { kind: 'sign', value: found }
}

const encode = (text: string, quote: string): string => quote + text.replace(/[\\'"`]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\t', '\\t').replaceAll('\r', '\\r') + quote

/** The statement of those tokens and nothing else. */
export function writeTokens (tokens: readonly Token[]): string {
  return tokens.map(({ kind, value }) => kind === 'text' ? encode(value, "'") : kind === 'quoted' ? encode(value, '`') : value).join(' ')
}
