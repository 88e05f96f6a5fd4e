/**
 * A device model: what a type of devices looks like. Its document, what is checked when one is written, and how it is stored: one
 * document says which versions there are and holds the table of metrics (all that packers read), and every version with its schemas is
 * a document of its own that is never changed.
 */
import { createHash } from 'node:crypto'
import { TwinfoldError } from '../core/errors.js'
import { metricNameBytesMax } from '../core/limits.js'
import type { StoredDocument } from '../store/document-store.js'
import type { JsonObject } from '../twin/twin-model.js'
import { compileState } from './state-check.js'
import type { MetricSpec, MetricTable } from '../../workers/watch-protocol.js'

export const metricsPerModelMax = 512
export const modelsPerTenantMax = 1000
/** Older ones are not kept. */
export const versionsKeptMax = 50
const descriptionCharsMax = 4096
const typePattern = /^[A-Za-z0-9._:@-]{1,128}$/

/** What is written of a model; all of it is optional. */
export interface ModelBody {
  readonly description?: string
  readonly conflicts?: 'cloud' | 'device' | 'newest'
  readonly reported?: JsonObject
  readonly desired?: JsonObject
  readonly metrics?: Readonly<Record<string, MetricSpec>>
  readonly onUnknownMetric?: 'accept' | 'flag'
  readonly onMetricViolation?: 'accept' | 'flag'
  readonly onTwinViolation?: 'refuse' | 'flag'
}

export type Model = Required<Omit<ModelBody, 'reported' | 'desired'>> & Pick<ModelBody, 'reported' | 'desired'> & {
  readonly type: string
  readonly version: number
  /** µs */
  readonly createdAt: number
  /** Credential. */
  readonly createdBy: string
}

export interface ModelVersion {
  readonly version: number
  /** Tells the version's document apart from those of writers that came too late. */
  readonly hash: string
  readonly createdAt: number
  readonly createdBy: string
  readonly description: string
}

/** The document at `current/TYPE`. */
export interface CurrentModel extends MetricTable {
  readonly type: string
  /** Ascending; the last is in force. */
  readonly versions: readonly ModelVersion[]
}

export function isModelType (type: string): boolean { return typePattern.test(type) }

/** `type` sorts so: all current models stand together. */
export const currentPrefix = 'current/'
export function currentId (type: string): string { return `${currentPrefix}${type}` }
export function versionPrefix (type: string): string { return `version/${type}/` }
export function versionId (type: string, { version, hash }: Pick<ModelVersion, 'version' | 'hash'>): string {
  return `${versionPrefix(type)}${String(version).padStart(8, '0')}-${hash}`
}

export function readCurrent (document: StoredDocument): CurrentModel { return JSON.parse(document.body) as CurrentModel }

export function hashOf (body: string): string { return createHash('sha256').update(body).digest('hex').slice(0, 16) }

/** As an entity tag: a model that was deleted and made again has others. */
export function modelTag ({ versions }: CurrentModel): string {
  const { version, hash } = versions[versions.length - 1]
  return `${version}-${hash}`
}

/** Checks what somebody wants to be a model, and fills in what is not said. @throws TwinfoldError `invalid_field` naming the place */
export function checkedModel (type: string, body: ModelBody): Omit<Model, 'version' | 'createdAt' | 'createdBy'> {
  if (!isModelType(type)) throw new TwinfoldError('invalid_field', 'a type that has a model is 1 to 128 characters of A-Z a-z 0-9 . _ : @ -', { field: 'type' })
  const { description = '', conflicts = 'cloud', reported, desired, metrics = {}, onUnknownMetric = 'accept', onMetricViolation = 'flag', onTwinViolation = 'refuse' } = body
  if (description.length > descriptionCharsMax) throw new TwinfoldError('invalid_field', `'description' has more than ${descriptionCharsMax} characters`, { field: 'description' })
  if (reported !== undefined) compileState(reported, 'reported')
  if (desired !== undefined) compileState(desired, 'desired')
  if (Object.keys(metrics).length > metricsPerModelMax) throw new TwinfoldError('limit_reached', `a model has ${metricsPerModelMax} metrics at most`, { field: 'metrics' })
  for (const [name, spec] of Object.entries(metrics)) requireMetric(name, spec)
  return {
    type, description, conflicts, metrics, onUnknownMetric, onMetricViolation, onTwinViolation, ...reported === undefined ? {} : { reported }, ...desired === undefined ? {} : { desired }
  }
}

function requireMetric (name: string, { type, min, max }: MetricSpec): void {
  const field = `metrics.${name.slice(0, 80)}`
  if (name === '' || Buffer.byteLength(name) > metricNameBytesMax) throw new TwinfoldError('invalid_field', `a metric's name has 1 to ${metricNameBytesMax} bytes`, { field })
  if (type !== 'number' && (min !== undefined || max !== undefined)) throw new TwinfoldError('invalid_field', `'${field}' has a range, which only numbers have`, { field })
  if (min !== undefined && max !== undefined && min > max) throw new TwinfoldError('invalid_field', `'${field}' has a 'min' above its 'max'`, { field })
}
