/**
 * Compiles the JSON Schemas of models (drafts 2020-12 and 07, by Ajv) into checks of a state. Patterns run on our own matcher
 * (linear-pattern.ts); formats are annotations, as draft 2020-12 has them by default; nothing is ever fetched.
 */
import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { TwinfoldError } from '../core/errors.js'
import { LinearPattern } from './linear-pattern.js'
import { draftOf, guardSchema } from './schema-guard.js'

/** What is wrong with the state, in words that name the place; null: nothing. */
export type StateCheck = (state: unknown) => string | null

const engine = Object.assign((pattern: string) => new LinearPattern(pattern), { code: 'LinearPattern' })
const options = { strict: false, validateFormats: false, logger: false, code: { regExp: engine } } as const

/** @param part what it checks, for the words of what is wrong. @throws TwinfoldError `invalid_field` naming the part and the place */
export function compileState (schema: unknown, part: 'desired' | 'reported'): StateCheck {
  guardSchema(schema, part)
  // A compiler of its own: it keeps every schema it has seen.
  const ajv = draftOf(schema, part) === '07' ? new Ajv(options) : new Ajv2020(options)
  try {
    const validate = ajv.compile(schema)
    return state => {
      if (validate(state) === true) return null
      const [error] = validate.errors ?? []
      return `${part}${error.instancePath} ${error.message ?? 'is not allowed'}${detailOf(error.params)}`.slice(0, 500)
    }
  } catch (error) {
    throw new TwinfoldError('invalid_field', `'${part}' is no JSON Schema: ${(error as Error).message.slice(0, 300)}`, { field: part })
  }
}

function detailOf (params: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(params.allowedValues)) return `: ${JSON.stringify(params.allowedValues).slice(0, 200)}`
  if (typeof params.additionalProperty === 'string') return `: '${params.additionalProperty.slice(0, 100)}'`
  return ''
}
