/** Which fields of devices an answer shows, and in which order devices come: the parameters `fields` and `sort`. Pure. */
import { TwinfoldError } from '../core/errors.js'
import { readField } from '../core/filter/evaluate-filter.js'
import type { FilterField } from '../core/filter/filter.js'
import { parseFilterField } from '../core/filter/parse-filter.js'
import { isoTime } from '../core/iso-time.js'
import { searchSortsMax, type FoundTwin, type SearchSort } from '../store/twin-search.js'

/** Whole parts of a device; all else is a field of the filter language. */
const parts = ['id', 'name', 'type', 'gatewayId', 'createdAt', 'tags', 'connection', 'lastActivity', 'desired', 'reported', 'version', 'desiredVersion', 'reportedVersion', 'updatedAt'] as const
type Part = typeof parts[number]

export interface ShownFields {
  readonly parts: ReadonlySet<Part>
  readonly paths: readonly FilterField[]
  /** Whether desired or reported is shown, or a part of them. */
  readonly documents: boolean
  readonly latest: readonly string[]
}

const fieldsMax = 50
export const fieldsDefault = 'id,name,type,tags,connection'

/** Commas outside of quoted keys. @throws TwinfoldError `invalid_field` */
function namesOf (text: string, parameter: string, most: number): string[] {
  const names = [...text.matchAll(/(?:`(?:[^`]|``)*`|\["(?:[^"\\]|\\.)*"\]|[^,])+/g)].map(([name]) => name.trim()).filter(name => name !== '')
  if (names.length === 0 || names.length > most) throw new TwinfoldError('invalid_field', `'${parameter}' takes 1 to ${most} fields, with commas between them`, { field: parameter })
  return names
}

/** @throws TwinfoldError `invalid_field` */
export function parseShown (text: string): ShownFields {
  const shown = new Set<Part>(['id'])
  const paths: FilterField[] = []
  for (const name of namesOf(text, 'fields', fieldsMax)) {
    const part = name === 'gateway' ? 'gatewayId' : name.startsWith('connection.') ? 'connection' : parts.find(known => known === name)
    if (part === undefined) paths.push(parseFilterField(name, 'fields'))
    else shown.add(part)
  }
  const documents = shown.has('desired') || shown.has('reported') || paths.some(({ root }) => root === 'desired' || root === 'reported')
  return { parts: shown, paths, documents, latest: [...new Set(paths.filter(({ root }) => root === 'latest').map(({ path }) => path[0]))] }
}

/** `-` before a field: descending. @throws TwinfoldError `invalid_field` */
export function parseSort (text: string): SearchSort[] {
  return namesOf(text, 'sort', searchSortsMax).map(name => {
    const isDown = name.startsWith('-')
    return { field: parseFilterField(isDown ? name.slice(1) : name, 'sort'), order: isDown ? 'desc' : 'asc' }
  })
}

/** A device as the answer shows it; what it does not have is left out of `tags`, `desired`, `reported` and `latest`, and null elsewhere. */
export function showTwin (twin: FoundTwin, { parts: shown, paths }: ShownFields): object {
  const view: Record<string, unknown> = {}
  for (const part of parts) if (shown.has(part)) view[part] = showPart(twin, part)
  for (const field of paths) {
    const { root, path } = field
    // The whole of it is shown.
    if (shown.has(root as Part)) continue
    const into = (view[root] ??= {}) as Record<string, unknown>
    if (root === 'latest') {
      const found = Object.hasOwn(twin.latest, path[0]) ? twin.latest[path[0]] : null
      if (found !== null) setOwn(into, path[0], { ts: isoTime(found.ts), value: jsonNumber(found.value) })
      continue
    }
    const value = readField(field, { id: twin.id, tags: twin.tags, desired: twin.desired, reported: twin.reported })
    if (value !== undefined) setPath(into, path, value)
  }
  return view
}

function showPart (twin: FoundTwin, part: Part): unknown {
  switch (part) {
    case 'gatewayId': return twin.gateway
    case 'createdAt': return isoTime(twin.createdAt)
    case 'updatedAt': case 'lastActivity': return twin[part] === 0 ? null : isoTime(twin[part])
    case 'connection': {
      const { connection } = twin
      return connection === null ? null : { ...connection, since: isoTime(connection.since) }
    }
    default: return twin[part]
  }
}

/** JSON has no NaN and no infinities: texts, as in other answers. */
function jsonNumber (value: number | boolean | string): number | boolean | string {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
}

function setPath (into: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = into
  for (const key of path.slice(0, -1)) {
    if (!Object.hasOwn(at, key)) setOwn(at, key, {})
    at = at[key] as Record<string, unknown>
  }
  setOwn(at, path[path.length - 1], value)
}

/** Whatever its name is (`__proto__`). */
function setOwn (into: object, key: string, value: unknown): void {
  Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true })
}
