/** Fields of the filter language as SQL over a row `t` of the `twins` table and what is joined to it. Pure; every name of a path is bound. */
import type { FilterField } from '../../core/filter/filter.js'
import { TwinfoldError } from '../../core/errors.js'
import { searchMetricsMax } from '../twin-search.js'
import type { Bound } from './fleet-bound.js'
import { leafFlags, leafKey, type LeafPart } from './twin-leaves.js'

/** What a field is in each type: `is` says whether it has a value of that type. */
export interface SqlField {
  /** Its texts begin with `prefix`. */
  readonly string: { readonly is: string, readonly value: string, readonly prefix: string } | null
  readonly number: { readonly is: string, readonly value: string, readonly type: 'Float64' | 'Int64' } | null
  readonly boolean: { readonly is: string, readonly value: string } | null
  readonly exists: string
}

const noField = { string: null, number: null, boolean: null }

/** The fields of one statement: binds what they name, and knows what must be joined. */
export class TwinFields {
  readonly #database: string
  readonly #bound: Bound
  readonly #tenant: string
  readonly #oldestTs: number
  readonly #only: string
  readonly #metrics = new Map<string, string>()
  readonly #known = new Map<string, SqlField>()
  #activity = false

  /** @param tenant the bound parameter of the tenant. @param only of the devices that the statement is about; '': all */
  constructor (database: string, bound: Bound, tenant: string, oldestTs: number, only = '') {
    this.#database = database
    this.#bound = bound
    this.#tenant = tenant
    this.#oldestTs = oldestTs
    this.#only = only === '' ? '' : ` AND device IN ${only}`
  }

  /** @throws TwinfoldError `invalid_field`: too many metrics */
  of (field: FilterField): SqlField {
    const name = JSON.stringify([field.root, ...field.path])
    let known = this.#known.get(name)
    if (known === undefined) this.#known.set(name, known = this.#make(field))
    return known
  }

  /** Whether there is a latest value of the metric; what is joined has its columns. @throws TwinfoldError `invalid_field` */
  latest (metric: string): { readonly alias: string, readonly is: string } {
    let alias = this.#metrics.get(metric)
    if (alias === undefined) {
      if (this.#metrics.size >= searchMetricsMax) throw new TwinfoldError('invalid_field', `a search looks at the latest values of at most ${searchMetricsMax} metrics`, { field: 'filter' })
      alias = `l${this.#metrics.size}`
      this.#metrics.set(metric, alias)
    }
    // Of a device that had this id before, or erased: not brought to the table of latest values yet.
    return { alias, is: `(${alias}.type != 0 AND ${alias}.stamp >= t.erased_before)` }
  }

  /** When it was last heard, µs; 0: never. What was heard before the device was made was said by another. */
  activity (): string {
    this.#activity = true
    return 'if(greatest(t.activity, a.at) >= t.created_at, greatest(t.activity, a.at), 0)'
  }

  /** To be asked for when all fields are made. */
  joins (): string {
    const joins = [...this.#metrics].map(([metric, alias]) => `LEFT ANY JOIN (
  SELECT device, toUInt8(type) AS type, number, boolean, string, toUnixTimestamp64Micro(ts) AS us, stamp FROM ${this.#database}.latest FINAL
  WHERE tenant = ${this.#tenant} AND metric = ${this.#bound.add('String', metric)} AND ts >= ${this.#bound.time(this.#oldestTs)}${this.#only}) AS ${alias} ON ${alias}.device = t.device`)
    if (this.#activity) joins.push(`LEFT ANY JOIN (SELECT device, at FROM ${this.#database}.twin_activity FINAL WHERE tenant = ${this.#tenant}${this.#only}) AS a ON a.device = t.device`)
    return joins.join('\n')
  }

  #make ({ root, path }: FilterField): SqlField {
    switch (root) {
      case 'id': return text('t.device', '1')
      case 'name': return text('t.name', '1')
      case 'type': return text('toString(t.type)', '1')
      case 'gateway': return text('t.gateway', "t.gateway != ''")
      case 'connection.state': return text("if(t.state = 1, 'connected', if(t.state = 2, 'disconnected', ''))", 't.state != 0')
      case 'connection.reason': return text('toString(t.reason)', "t.reason != ''")
      case 'connection.since': return time('t.since')
      case 'createdAt': return time('t.created_at')
      case 'lastActivity': return time(this.activity())
      case 'latest': return this.#latest(path[0])
      default: return this.#leaf(root, path)
    }
  }

  #latest (metric: string): SqlField {
    const { alias, is } = this.latest(metric)
    return {
      number: { is: `(${is} AND ${alias}.type = 1)`, value: `${alias}.number`, type: 'Float64' },
      boolean: { is: `(${is} AND ${alias}.type = 2)`, value: `toUInt8(${alias}.boolean)` },
      string: { is: `(${is} AND ${alias}.type = 3)`, value: `${alias}.string`, prefix: '' },
      exists: is
    }
  }

  #leaf (part: LeafPart, path: readonly string[]): SqlField {
    const { map, text: name } = leafKey(part, path)
    const key = this.#bound.add('UInt64', name)
    const string = `t.s${map}[${key}]`
    const strings = { is: `${string} != ''`, value: string, prefix: '=' }
    if (part === 'tags') return { ...noField, string: strings, exists: strings.is }
    const hasNumber = `mapContains(t.n${map}, ${key})`
    const hasFlag = `mapContains(t.f${map}, ${key})`
    const flag = `t.f${map}[${key}]`
    return {
      string: strings,
      number: { is: hasNumber, value: `t.n${map}[${key}]`, type: 'Float64' },
      boolean: { is: `(${hasFlag} AND ${flag} != ${leafFlags.container})`, value: `(${flag} = ${leafFlags.true})` },
      exists: `(${strings.is} OR ${hasNumber} OR ${hasFlag})`
    }
  }
}

function text (value: string, is: string): SqlField {
  return { ...noField, string: { is, value, prefix: '' }, exists: is }
}

function time (value: string): SqlField {
  const is = `${value} != 0`
  return { ...noField, number: { is, value, type: 'Int64' }, exists: is }
}
