/**
 * The second judgement on tenant SQL: on the tree that the engine's own parser makes of it (EXPLAIN AST), so that a difference between
 * that parser and our tokens opens nothing. A kind of node that is not known is refused. Pure.
 *
 * It is needed: `file()` as a function reads the host, and INTO OUTFILE writes to it, on a connection of chdb that is read only.
 */
import { isCallable } from './sql-functions.js'

const nodes = new Set(['ExpressionList', 'Literal', 'TableExpression', 'SelectWithUnionQuery', 'SelectIntersectExceptQuery', 'SelectQuery', 'Identifier', 'TablesInSelectQueryElement',
  'TablesInSelectQuery', 'TableIdentifier', 'TableJoin', 'ArrayJoin', 'Subquery', 'Asterisk', 'QualifiedAsterisk', 'WithElement', 'WindowDefinition', 'WindowListElement', 'OrderByElement',
  'Function', 'ColumnsTransformerList', 'ColumnsReplaceTransformer', 'ColumnsReplaceTransformer::Replacement', 'ColumnsExceptTransformer', 'NameTypePair', 'DataType'])

/** What operators and keywords become. */
const operators = new Set(['lambda', 'notlike', 'notilike', 'exists', 'globalin', 'globalnotin', 'notin', 'casewithexpression', 'touppercase', 'subtract', 'grouping', 'isdistinctfrom', 'isnotdistinctfrom',
  'tointervalsecond', 'tointervalminute', 'tointervalhour', 'tointervalday', 'tointervalweek', 'tointervalmonth', 'tointervalquarter', 'tointervalyear', 'dateadd', 'datesub'])

/** The statement whose answer is the tree: only a SELECT fits the parentheses, without a format or a destination. */
export function treeStatement (sql: string): string {
  return `EXPLAIN AST SELECT * FROM (\n${sql}\n)`
}

/** What of the tree may not be; null: nothing. */
export function whatIsRefused (tree: string): string | null {
  for (const line of tree.split('\n')) {
    if (line.trim() === '') continue
    const [node, value = ''] = line.trim().split(' ')
    if (!nodes.has(node)) return node === 'Set' ? 'settings' : node
    const word = value.toLowerCase()
    if (node === 'Function' && !isCallable(word) && !operators.has(word)) return `the function ${value}`
    if (node === 'TableIdentifier' && (word.includes('.') || word.startsWith('_'))) return `the table ${value}`
    if (node.endsWith('Identifier') && /^(?:system|information_schema|snapshot)(?:\.|$)|(?:^|\.)_/.test(word)) return `the name ${value}`
  }
  return null
}
