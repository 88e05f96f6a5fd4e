/**
 * Checks parameters and bodies of resource routes against the part of JSON Schema (2020-12) that their documents use, so that
 * what OpenAPI says is what is enforced. Strict: no member that the schema does not name, no conversion of types in bodies;
 * query parameters are text on the wire, so integers and booleans are read from it. The error names the field.
 */
import { TwinfoldError } from '../../core/errors.js'

export type SchemaType = 'string' | 'integer' | 'number' | 'boolean' | 'object' | 'array' | 'null'

/** The keywords in use; an unknown one is a mistake that `checkerOf` refuses when the server starts. */
export interface Schema {
  readonly type?: SchemaType | readonly SchemaType[]
  readonly description?: string
  readonly enum?: readonly (string | number | boolean | null)[]
  readonly pattern?: string
  readonly format?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly uniqueItems?: boolean
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly maxProperties?: number
  readonly minProperties?: number
  readonly default?: unknown
  readonly examples?: readonly unknown[]
}

const keywords = new Set(['type', 'description', 'enum', 'pattern', 'format', 'minLength', 'maxLength', 'minimum', 'maximum', 'items', 'minItems', 'maxItems',
  'uniqueItems', 'properties', 'required', 'additionalProperties', 'maxProperties', 'minProperties', 'default', 'examples', '$id', 'title'])

const fail = (field: string, what: string): TwinfoldError => new TwinfoldError('invalid_field', `${field === '' ? 'the body' : `'${field}'`} ${what}`, { field: field === '' ? 'body' : field })
const member = (path: string, name: string): string => path === '' ? name : `${path}.${name}`

function typeOf (value: unknown): SchemaType {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  const type = typeof value
  return type === 'number' ? (Number.isInteger(value) ? 'integer' : 'number') : type as SchemaType
}

function checkString (schema: Schema, value: string, path: string): void {
  const { minLength = 0, maxLength = Infinity, pattern } = schema
  if (value.length < minLength || value.length > maxLength) throw fail(path, `must have ${minLength} to ${maxLength} characters`)
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(value)) throw fail(path, `must match ${pattern}`)
}

function checkNumber (schema: Schema, value: number, path: string): void {
  const { minimum = -Infinity, maximum = Infinity } = schema
  if (value < minimum || value > maximum) throw fail(path, `must be between ${minimum} and ${maximum}`)
}

function checkArray (schema: Schema, value: readonly unknown[], path: string): void {
  const { minItems = 0, maxItems = Infinity, items } = schema
  if (value.length < minItems || value.length > maxItems) throw fail(path, `must have ${minItems} to ${maxItems} elements`)
  if (schema.uniqueItems === true && new Set(value).size !== value.length) throw fail(path, 'must not repeat an element')
  if (items !== undefined) value.forEach((item, index) => { checkValue(items, item, `${path}[${index}]`) })
}

function checkObject (schema: Schema, value: Readonly<Record<string, unknown>>, path: string): void {
  const { properties = {}, required = [], additionalProperties = true } = schema
  for (const name of required) if (!Object.hasOwn(value, name)) throw fail(member(path, name), 'is required')
  const names = Object.keys(value)
  if (names.length > (schema.maxProperties ?? Infinity) || names.length < (schema.minProperties ?? 0)) throw fail(path, `must have ${schema.minProperties ?? 0} to ${schema.maxProperties ?? 'any number of'} members`)
  for (const name of names) {
    if (Object.hasOwn(properties, name)) checkValue(properties[name], value[name], member(path, name))
    else if (additionalProperties === false) throw fail(member(path, name), `is not known here; known are ${Object.keys(properties).join(', ')}`)
    else if (additionalProperties !== true) checkValue(additionalProperties, value[name], member(path, name))
  }
}

/** @throws TwinfoldError `invalid_field` with the path of the first member that does not fit. */
export function checkValue (schema: Schema, value: unknown, path = ''): void {
  const type = typeOf(value)
  if (schema.type !== undefined) {
    const types: readonly SchemaType[] = typeof schema.type === 'string' ? [schema.type] : schema.type
    if (!types.includes(type) && !(type === 'integer' && types.includes('number'))) throw fail(path, `must be ${types.join(' or ')}`)
  }
  if (schema.enum !== undefined && !schema.enum.includes(value as string)) throw fail(path, `must be one of ${schema.enum.join(', ')}`)
  switch (type) {
    case 'string': checkString(schema, value as string, path); break
    case 'integer': case 'number': checkNumber(schema, value as number, path); break
    case 'array': checkArray(schema, value as unknown[], path); break
    case 'object': checkObject(schema, value as Record<string, unknown>, path); break
  }
}

/** Reads a query parameter's text as the schema's type; leaves it as it is where it is none, for the check to refuse. */
function readText (schema: Schema, value: unknown): unknown {
  if (typeof value !== 'string') return value
  if (schema.type === 'integer' && /^-?[0-9]{1,15}$/.test(value)) return Number(value)
  if (schema.type === 'boolean' && (value === 'true' || value === 'false')) return value === 'true'
  if (schema.type === 'array') return [value]
  return value
}

function readTexts (schema: Schema, value: unknown): Record<string, unknown> {
  const read: Record<string, unknown> = Object.create(null) as Record<string, unknown>
  for (const [name, text] of Object.entries(value as object)) {
    const own = schema.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : {}
    if (Array.isArray(text) && own.type !== 'array') throw fail(name, 'is given more than once')
    read[name] = readText(own, text)
  }
  return read
}

function requireKnownKeywords (schema: Schema): void {
  for (const keyword of Object.keys(schema)) if (!keywords.has(keyword)) throw new Error(`schema keyword '${keyword}' is not enforced`)
  for (const own of Object.values(schema.properties ?? {})) requireKnownKeywords(own)
  if (schema.items !== undefined) requireKnownKeywords(schema.items)
  if (typeof schema.additionalProperties === 'object') requireKnownKeywords(schema.additionalProperties)
}

export type Checked = { readonly value: unknown } | { readonly error: Error }

/** A validator in the form Fastify wants. @param part 'querystring' and 'params' are text. */
export function checkerOf (schema: Schema, part: string | undefined): (value: unknown) => Checked {
  requireKnownKeywords(schema)
  return value => {
    try {
      const read = part === 'body' ? value : readTexts(schema, value ?? {})
      checkValue(schema, read)
      return { value: read }
    } catch (error) {
      return { error: error as Error }
    }
  }
}
