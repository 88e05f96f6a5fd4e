/** The little of ClickHouse's SQL that the engine's HTTP face must understand. Pure. */

/** A string literal. */
export function literal (text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

export function quotedName (name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}

/**
 * For `INSERT INTO t … FORMAT name`, whose data came apart from it: the same statement with the data in a file.
 * @returns a function of the file's path; null for every other statement.
 */
export function insertFromFile (query: string): ((file: string) => string) | null {
  const match = /^(\s*INSERT\s+INTO\s[\s\S]*?)(\sSETTINGS\s[\s\S]*?)?\sFORMAT\s+(\w+)\s*;?\s*$/i.exec(query)
  if (match === null || /\sSELECT\s/i.test(match[1])) return null
  return file => `${match[1]} FROM INFILE ${literal(file)}${match[2] ?? ''} FORMAT ${match[3]}`
}

/** Whether a statement changes something, by its first word after comments and brackets. */
export function isRead (sql: string): boolean {
  return /^(?:\s|\(|--[^\n]*\n|\/\*[\s\S]*?\*\/)*(?:SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b/i.test(sql)
}

/**
 * Where a second statement begins; null where there is none. A server takes one statement a request, the engine by itself would run
 * them all. What follows VALUES or FORMAT in an insert is data, and not looked at.
 */
export function secondStatement (sql: string): number | null {
  if (/^\s*INSERT\b/i.test(sql) && !/\sSELECT\s/i.test(sql)) return null
  const token = /'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*"|`(?:[^`\\]|\\[\s\S])*`|--[^\n]*|\/\*[\s\S]*?\*\/|;|\S/g
  let ended = false
  for (const match of sql.matchAll(token)) {
    if (match[0].startsWith('--') || match[0].startsWith('/*')) continue
    if (ended && match[0] !== ';') return match.index
    if (match[0] === ';') ended = true
  }
  return null
}
