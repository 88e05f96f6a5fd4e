/**
 * Models of a tenant: written, read, deleted. Writers are told apart by the revision of the model's document (document-store.ts), so two
 * with the same entity tag get one success. A version's own document is written first and named by its content, so a writer that dies or
 * comes too late leaves a document that nothing names, which goes with the next write.
 *
 * A change of a model touches no twin: what violates it since is told by `validate`.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { DocumentStore, StoredDocument } from '../store/document-store.js'
import type { Page } from '../store/registry.js'
import type { JsonObject } from '../twin/twin-model.js'
import {
  checkedModel, currentId, currentPrefix, hashOf, isModelType, modelTag, modelsPerTenantMax, readCurrent, versionId, versionPrefix, versionsKeptMax,
  type CurrentModel, type Model, type ModelBody, type ModelVersion
} from './model.js'
import { compileState } from './state-check.js'
import type { ViolationCount, ViolationLog } from './violation-log.js'

/** null: whatever is there. `*`: there must be one; `none`: there must be none. */
export type ExpectedTag = string | null

export interface TaggedModel { readonly model: Model, readonly tag: string }

export interface ModelServiceOptions {
  readonly documents: DocumentStore
  readonly violations: Pick<ViolationLog, 'of' | 'forget' | 'sinceUs'>
  readonly clock: Clock
  /** Called after a write of this node: caches drop the model. */
  readonly changed: (tenant: string, type: string) => void
}

const attemptsMax = 20

export class ModelService {
  readonly #documents: DocumentStore
  readonly #violations: ModelServiceOptions['violations']
  readonly #clock: Clock
  readonly #changed: (tenant: string, type: string) => void
  readonly stats = { written: 0, deleted: 0, conflicts: 0 }

  constructor ({ documents, violations, clock, changed }: ModelServiceOptions) {
    this.#documents = documents
    this.#violations = violations
    this.#clock = clock
    this.#changed = changed
  }

  async get (tenant: string, type: string): Promise<TaggedModel | null> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const document = await this.#current(tenant, type)
      if (document === null) return null
      const current = readCurrent(document)
      const model = await this.#version(tenant, current, current.versions[current.versions.length - 1])
      // Its version went in between: the model was deleted, or written very often.
      if (model !== null) return { model, tag: modelTag(current) }
    }
    throw new TwinfoldError('store_unavailable', 'the model is changed all the time')
  }

  /** In order of type, without their schemas. */
  async list (tenant: string, cursor: string | null, limit: number): Promise<Page<CurrentModel>> {
    const { items, next } = await this.#documents.listDocuments('model', tenant, currentPrefix, cursor, limit)
    return { items: items.map(readCurrent), next }
  }

  /** Newest first; null: there is no such model. */
  async versions (tenant: string, type: string): Promise<readonly ModelVersion[] | null> {
    const document = await this.#current(tenant, type)
    return document === null ? null : [...readCurrent(document).versions].reverse()
  }

  /** null: not there, or not kept any more. */
  async version (tenant: string, type: string, version: number): Promise<Model | null> {
    const document = await this.#current(tenant, type)
    if (document === null) return null
    const current = readCurrent(document)
    const found = current.versions.find(entry => entry.version === version)
    return found === undefined ? null : await this.#version(tenant, current, found)
  }

  /** A new version. @throws TwinfoldError `invalid_field`, `limit_reached`, `precondition_failed` */
  async put (tenant: string, type: string, body: ModelBody, expected: ExpectedTag, createdBy: string): Promise<TaggedModel & { readonly created: boolean }> {
    const checked = checkedModel(type, body)
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const document = await this.#current(tenant, type)
      const before = document === null ? null : readCurrent(document)
      requireTag(before === null ? null : modelTag(before), expected)
      if (before === null) await this.#requireRoom(tenant)
      const last = before === null ? 0 : before.versions[before.versions.length - 1].version
      const model: Model = { ...checked, version: last + 1, createdAt: this.#clock.nowUs(), createdBy }
      const text = JSON.stringify(model)
      const entry: ModelVersion = { version: model.version, hash: hashOf(text), createdAt: model.createdAt, createdBy, description: model.description.slice(0, 200) }
      const { metrics, onUnknownMetric, onMetricViolation } = model
      const current: CurrentModel = { type, versions: [...before?.versions ?? [], entry].slice(-versionsKeptMax), metrics, onUnknownMetric, onMetricViolation }
      await this.#documents.putDocument('model', tenant, versionId(type, entry), text, 0)
      if (!await this.#documents.putDocument('model', tenant, currentId(type), JSON.stringify(current), document?.revision ?? 0)) {
        this.stats.conflicts++
        continue
      }
      this.stats.written++
      this.#changed(tenant, type)
      await this.#trim(tenant, type, current)
      return { model, tag: modelTag(current), created: before === null }
    }
    throw new TwinfoldError('precondition_failed', 'others write this model all the time; read it and try again')
  }

  /** False: there is none. Its versions go with it. @throws TwinfoldError `precondition_failed` */
  async delete (tenant: string, type: string, expected: ExpectedTag): Promise<boolean> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const document = await this.#current(tenant, type)
      const before = document === null ? null : readCurrent(document)
      if (document === null || before === null) {
        if (expected !== null) requireTag(null, expected)
        return false
      }
      requireTag(modelTag(before), expected)
      if (!await this.#documents.deleteDocument('model', tenant, currentId(type), document.revision)) { this.stats.conflicts++; continue }
      this.stats.deleted++
      this.#violations.forget(tenant, type)
      this.#changed(tenant, type)
      await this.#trim(tenant, type, null)
      return true
    }
    throw new TwinfoldError('precondition_failed', 'others write this model all the time; read it and try again')
  }

  /** What is wrong with a state by the model that is in force: at most one fault of each part. null: there is no such model. */
  async validate (tenant: string, type: string, state: State): Promise<{ readonly version: number, readonly violations: readonly StateViolation[] } | null> {
    const found = await this.get(tenant, type)
    return found === null ? null : { version: found.model.version, violations: violationsOf(found.model, state) }
  }

  /** As this node has seen them since `sinceUs`. null: there is no such model. */
  async violations (tenant: string, type: string): Promise<{ readonly sinceUs: number, readonly counts: readonly ViolationCount[] } | null> {
    return await this.#current(tenant, type) === null ? null : { sinceUs: this.#violations.sinceUs, counts: this.#violations.of(tenant, type) }
  }

  async #current (tenant: string, type: string): Promise<StoredDocument | null> {
    return isModelType(type) ? await this.#documents.getDocument('model', tenant, currentId(type)) : null
  }

  async #version (tenant: string, { type }: CurrentModel, entry: ModelVersion): Promise<Model | null> {
    const document = await this.#documents.getDocument('model', tenant, versionId(type, entry))
    return document === null ? null : JSON.parse(document.body) as Model
  }

  async #requireRoom (tenant: string): Promise<void> {
    const { items } = await this.#documents.listDocuments('model', tenant, currentPrefix, null, modelsPerTenantMax)
    if (items.length >= modelsPerTenantMax) throw new TwinfoldError('limit_reached', `a tenant has ${modelsPerTenantMax} models at most`)
  }

  /** Takes away versions that nothing names. Those newer than the newest named are of writers that are still at it. */
  async #trim (tenant: string, type: string, current: CurrentModel | null): Promise<void> {
    const named = new Set(current?.versions.map(entry => versionId(type, entry)))
    const below = current === null ? Infinity : current.versions[current.versions.length - 1].version
    const { items } = await this.#documents.listDocuments('model', tenant, versionPrefix(type), null, versionsKeptMax * 2)
    for (const { id, revision, body } of items) {
      if (!named.has(id) && (JSON.parse(body) as Model).version <= below) await this.#documents.deleteDocument('model', tenant, id, revision)
    }
  }
}

/** @throws TwinfoldError `precondition_failed` */
export function requireTag (found: string | null, expected: ExpectedTag): void {
  if (expected === null) return
  const fits = expected === '*' ? found !== null : expected === 'none' ? found === null : found === expected
  if (!fits) throw new TwinfoldError('precondition_failed', found === null ? 'there is none yet' : expected === 'none' ? 'there is one already' : 'it was changed since; read it and try again', { field: 'If-Match' })
}

export interface State { readonly desired?: JsonObject, readonly reported?: JsonObject }
export interface StateViolation { readonly part: 'desired' | 'reported', readonly detail: string }

function violationsOf (model: Pick<Model, 'desired' | 'reported'>, state: State): StateViolation[] {
  const found: StateViolation[] = []
  for (const part of ['desired', 'reported'] as const) {
    const schema = model[part]
    const given = state[part]
    if (schema === undefined || given === undefined) continue
    const detail = compileState(schema, part)(given)
    if (detail !== null) found.push({ part, detail })
  }
  return found
}
