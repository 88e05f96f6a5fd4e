/**
 * Looks a tenant's JSON Schema over before it is compiled: a schema is a program that is run on the main thread for every change of a
 * twin, so whatever could make it run long is refused when it is stored, with words that name the place. What is left costs at most its
 * own size, references written out, for every member of the state. Pure.
 */
import { TwinfoldError } from '../core/errors.js'
import { LinearPattern } from './linear-pattern.js'

export const schemaBytesMax = 64 * 1024
export const schemaDepthMax = 32
/** Sub-schemas with every reference written out. */
export const schemaSizeMax = 2000
/** Comparing every element with every other is for short arrays. */
const uniqueItemsMax = 256

/** Keywords whose value is a schema, a list of schemas, and a map of schemas by name. */
const one = new Set(['items', 'additionalItems', 'contains', 'additionalProperties', 'propertyNames', 'unevaluatedProperties', 'unevaluatedItems', 'not', 'if', 'then', 'else'])
const list = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems', 'items'])
const map = new Set(['properties', 'patternProperties', 'dependentSchemas', 'dependencies', '$defs', 'definitions'])
const plain = new Set(['$schema', '$comment', '$ref', 'title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly', 'type', 'enum', 'const', 'multipleOf',
  'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'minLength', 'maxLength', 'pattern', 'format', 'minItems', 'maxItems', 'uniqueItems', 'minContains', 'maxContains',
  'required', 'dependentRequired', 'minProperties', 'maxProperties'])

type JsonMap = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is JsonMap => typeof value === 'object' && value !== null && !Array.isArray(value)

function refuse (field: string, place: string, what: string): TwinfoldError {
  return new TwinfoldError('invalid_field', `'${field}' ${place === '' ? '' : `at ${place} `}${what}`, { field })
}

class Guard {
  readonly #root: JsonMap
  readonly #field: string
  /** Size of what was looked over already; 0 while it is being looked over. */
  readonly #sizes = new Map<object, number>()

  constructor (root: JsonMap, field: string) {
    this.#root = root
    this.#field = field
  }

  /** Sub-schemas of it, references written out. */
  size (schema: unknown, place: string, depth: number): number {
    if (typeof schema === 'boolean') return 1
    if (!isMap(schema)) throw refuse(this.#field, place, 'must be a schema: an object, true or false')
    if (depth > schemaDepthMax) throw refuse(this.#field, place, `is nested deeper than ${schemaDepthMax}`)
    const known = this.#sizes.get(schema)
    if (known === 0) throw refuse(this.#field, place, 'refers to itself: write out as many levels as a state may have')
    if (known !== undefined) return known
    this.#sizes.set(schema, 0)
    let size = 1
    for (const [keyword, value] of Object.entries(schema)) size += this.#keyword(schema, keyword, value, `${place}/${keyword}`, depth)
    if (size > schemaSizeMax) throw refuse(this.#field, place, `is too large: ${schemaSizeMax} sub-schemas at most, with every reference written out`)
    this.#sizes.set(schema, size)
    return size
  }

  #keyword (schema: JsonMap, keyword: string, value: unknown, place: string, depth: number): number {
    if (map.has(keyword)) return this.#map(keyword, value, place, depth)
    if (list.has(keyword) && Array.isArray(value)) return value.reduce<number>((sum, part, index) => sum + this.size(part, `${place}/${index}`, depth + 1), 0)
    if (one.has(keyword)) return this.size(value, place, depth + 1)
    if (!plain.has(keyword)) throw refuse(this.#field, place, 'is not a keyword that is supported here')
    if (keyword === 'pattern') this.#pattern(value, place)
    if (keyword === '$schema' && place !== '/$schema') throw refuse(this.#field, place, 'may only stand at the top')
    if (keyword === 'uniqueItems' && value === true && !(typeof schema.maxItems === 'number' && schema.maxItems <= uniqueItemsMax)) {
      throw refuse(this.#field, place, `takes a 'maxItems' of ${uniqueItemsMax} at most beside it`)
    }
    return keyword === '$ref' ? this.size(this.#target(value, place), place, depth + 1) : 0
  }

  #map (keyword: string, value: unknown, place: string, depth: number): number {
    if (!isMap(value)) throw refuse(this.#field, place, 'must be an object')
    let size = 0
    for (const [name, part] of Object.entries(value)) {
      if (keyword === 'patternProperties') this.#pattern(name, place)
      // Definitions cost where they are used; they are looked over all the same.
      const own = keyword === 'dependencies' && Array.isArray(part) ? 0 : this.size(part, `${place}/${name}`, depth + 1)
      if (keyword !== '$defs' && keyword !== 'definitions') size += own
    }
    return size
  }

  #pattern (value: unknown, place: string): void {
    if (typeof value !== 'string') throw refuse(this.#field, place, 'must be a string')
    try {
      new LinearPattern(value)
    } catch (error) {
      throw refuse(this.#field, place, (error as Error).message)
    }
  }

  #target (reference: unknown, place: string): unknown {
    if (typeof reference !== 'string' || !/^#(\/.*)?$/s.test(reference)) throw refuse(this.#field, place, 'must point into the same schema (#/…): nothing is fetched')
    let target: unknown = this.#root
    for (const part of reference.split('/').slice(1)) {
      const name = decodedPart(part)
      target = isMap(target) && Object.hasOwn(target, name) ? target[name] : Array.isArray(target) ? target[Number(name)] : undefined
    }
    if (target === undefined) throw refuse(this.#field, place, `points to '${reference.slice(0, 80)}', which is not there`)
    return target
  }
}

/** RFC 6901 section 6. */
function decodedPart (part: string): string {
  try {
    return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
  } catch {
    return part
  }
}

export type SchemaDraft = '2020-12' | '07'

/** The draft that a schema says it is of; 2020-12 where it says nothing. @throws TwinfoldError `invalid_field` */
export function draftOf (schema: JsonMap, field: string): SchemaDraft {
  const { $schema: named = 'https://json-schema.org/draft/2020-12/schema' } = schema
  if (typeof named === 'string' && /^https:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/.test(named)) return '2020-12'
  if (typeof named === 'string' && /^http:\/\/json-schema\.org\/draft-07\/schema#?$/.test(named)) return '07'
  throw refuse(field, '/$schema', 'must name draft 2020-12 or draft 07')
}

/** @param field which part of a model it is, for the error. @throws TwinfoldError `invalid_field` naming the place */
export function guardSchema (schema: unknown, field: string): asserts schema is JsonMap {
  if (!isMap(schema)) throw refuse(field, '', 'must be a JSON Schema object')
  if (Buffer.byteLength(JSON.stringify(schema)) > schemaBytesMax) throw refuse(field, '', `is larger than ${schemaBytesMax} bytes`)
  draftOf(schema, field)
  new Guard(schema, field).size(schema, '', 1)
}
