/**
 * What tenant SQL may say: one SELECT over its three tables with functions of the list. The second wall: the engine that runs it holds
 * nothing but the tenant's own rows and is set to read only, so that what slips through here still meets nobody else's data.
 * An allow-list on tokens, not a parser: where in doubt, a statement is refused, and the message says which word.
 */
import { isCallable } from './sql-functions.js'
import { refuseSql, tokensOf, writeTokens, type Token } from './sql-tokens.js'

export const sqlTables: readonly string[] = ['points', 'tiers_1h', 'devices']

/** Words that may stand before a parenthesis without being a call. */
const beforeParenthesis = new Set(['select', 'from', 'join', 'where', 'prewhere', 'having', 'qualify', 'by', 'on', 'using', 'and', 'or', 'not', 'in', 'as', 'over', 'when', 'then',
  'else', 'case', 'between', 'like', 'ilike', 'limit', 'offset', 'all', 'distinct', 'except', 'intersect', 'union', 'exists', 'with', 'is', 'interval', 'sets', 'cube', 'rollup', 'any',
  'filter', 'within', 'div', 'mod', 'asof', 'semi', 'anti', 'step', 'to', 'fill'])

/** Words that begin something other than a SELECT, or give it settings, a format or a destination. */
const refusedWords = new Set(['settings', 'format', 'into', 'outfile', 'infile', 'insert', 'create', 'alter', 'drop', 'truncate', 'attach', 'detach', 'rename', 'exchange', 'grant', 'revoke',
  'set', 'kill', 'optimize', 'use', 'explain', 'describe', 'show', 'check', 'undrop', 'delete', 'update', 'backup', 'restore', 'watch', 'execute', 'apply', 'columns', 'recursive',
  'stdin', 'stdout', 'compression', 'dictionary', 'parallel', 'intodumpfile', 'sample'])
// "replace" and "truncate" are functions as well; only as functions may they stand.
const functionToo = new Set(['replace', 'truncate', 'format', 'columns'])

const isWord = (token: Token | undefined): boolean => token?.kind === 'name' || token?.kind === 'quoted'
const isSign = (token: Token | undefined, value: string): boolean => token?.kind === 'sign' && token.value === value
const lower = (token: Token | undefined): string => token?.kind === 'name' ? token.value.toLowerCase() : ''

/** @returns the statement to run. @throws TwinfoldError `invalid_field` (`query`) saying what may not be asked */
export function guardSql (sql: string): string {
  const tokens = tokensOf(sql)
  if (isSign(tokens[tokens.length - 1], ';')) tokens.pop()
  if (tokens.length === 0) refuseSql('is empty')
  if (!['select', 'with'].includes(lower(tokens[0]))) refuseSql('must be one SELECT (or WITH … SELECT)')
  const known = new Set([...sqlTables, ...namesOfWith(tokens)])
  for (const [index, token] of tokens.entries()) {
    if (isSign(token, ';')) refuseSql('must be one statement')
    if (token.kind === 'text' && /AggregateFunction/i.test(token.value)) refuseSql('must not name types of aggregate states')
    if (isWord(token)) checkWord(tokens, index)
    if (lower(token) === 'join' ? lower(tokens[index - 1]) !== 'array' : lower(token) === 'from' && !isExtract(tokens, index)) checkTables(tokens, index, known)
  }
  return writeTokens(tokens)
}

function checkWord (tokens: readonly Token[], index: number): void {
  const token = tokens[index]
  const word = token.value.toLowerCase()
  const isCall = isSign(tokens[index + 1], '(')
  if (word.startsWith('_') || /^(?:system|information_schema)\b/.test(word) || word.includes('aggregatefunction')) refuseSql(`must not name ${JSON.stringify(token.value)}`)
  if (token.kind === 'name' && refusedWords.has(word) && !(isCall && functionToo.has(word) && isCallable(word))) refuseSql(`must not say ${token.value.toUpperCase()}`)
  if (!isCall || (token.kind === 'name' && beforeParenthesis.has(word) && !isCallable(word))) return
  // The name of a WITH list of columns, as in WITH a (x, y) AS …, is refused with the rest: it reads like a call.
  if (!isCallable(word)) refuseSql(`must not call ${JSON.stringify(token.value)}; docs/API.md lists the functions`)
  if (word === 'cast') checkCast(tokens, index + 1)
}

/** Only `CAST(x AS Type)`: a type that is a text could be put together from pieces. */
function checkCast (tokens: readonly Token[], open: number): void {
  let depth = 0
  for (let at = open; at < tokens.length; at++) {
    if (isSign(tokens[at], '(')) depth++
    if (isSign(tokens[at], ')') && --depth === 0) break
    if (depth === 1 && lower(tokens[at]) === 'as') return
    if (depth === 1 && isSign(tokens[at], ',')) break
  }
  refuseSql('must write casts as CAST(x AS Type)')
}

/** `extract(day FROM ts)`, `trim(both ' ' FROM x)`, `substring(x FROM 2)`: no tables follow. */
function isExtract (tokens: readonly Token[], index: number): boolean {
  if (lower(tokens[index]) !== 'from') return false
  let depth = 0
  for (let at = index - 1; at >= 0; at--) {
    if (isSign(tokens[at], ')')) depth++
    if (isSign(tokens[at], '(') && depth-- === 0) return ['extract', 'trim', 'substring', 'substr'].includes(lower(tokens[at - 1]))
    if (depth === 0 && lower(tokens[at]) === 'select') return false
  }
  return false
}

/** Names that WITH gives to a subquery: `name AS (SELECT`. */
function namesOfWith (tokens: readonly Token[]): string[] {
  const names: string[] = []
  tokens.forEach((token, index) => {
    if (isWord(token) && lower(tokens[index + 1]) === 'as' && isSign(tokens[index + 2], '(') && ['select', 'with'].includes(lower(tokens[index + 3]))) names.push(token.value)
  })
  return names
}

/** After FROM or JOIN, and after each comma of that list: a known table, or a subquery. */
function checkTables (tokens: readonly Token[], index: number, known: ReadonlySet<string>): void {
  const ends = new Set(['where', 'prewhere', 'group', 'having', 'order', 'limit', 'union', 'except', 'intersect', 'qualify', 'window', 'offset', 'using', 'join', 'inner', 'left', 'right', 'full', 'cross', 'any', 'asof', 'semi', 'anti', 'global', 'array'])
  let expects = true
  let depth = 0
  for (let at = index + 1; at < tokens.length; at++) {
    const token = tokens[at]
    if (isSign(token, '(')) {
      depth++
      expects = false
    } else if (isSign(token, ')')) {
      if (depth-- === 0) return
    } else if (depth === 0) {
      if (expects) {
        if (!isWord(token) || !known.has(token.value) || isSign(tokens[at + 1], '.')) refuseSql(`must read from ${sqlTables.join(', ')} and names of WITH alone, not ${JSON.stringify(token.value)}`)
        expects = false
      } else if (isSign(token, ',')) {
        expects = true
      } else if (ends.has(lower(token))) {
        return
      }
    }
  }
}
