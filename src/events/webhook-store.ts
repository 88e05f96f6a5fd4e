/** Webhooks and the MQTT switch of a tenant as documents: read, and changed by steps that each see the newest state. */
import { TwinfoldError } from '../core/errors.js'
import type { DocumentStore } from '../store/document-store.js'
import { decodeDocument, encodeDocument, mqttEventsId, type MqttEvents, type Webhook } from './webhook-model.js'

export interface Kept<T> {
  readonly value: T
  readonly revision: number
}

const collection = 'webhook'
const triesMax = 10
const listMax = 200

export class WebhookStore {
  readonly #documents: DocumentStore

  constructor (documents: DocumentStore) { this.#documents = documents }

  async tenants (): Promise<readonly string[]> { return await this.#documents.documentTenants(collection) }

  /** In order of id. */
  async list (tenant: string): Promise<Kept<Webhook>[]> {
    return (await this.all(tenant)).webhooks
  }

  async all (tenant: string): Promise<{ readonly webhooks: Kept<Webhook>[], readonly mqtt: Kept<MqttEvents> | null }> {
    const webhooks: Kept<Webhook>[] = []
    let mqtt: Kept<MqttEvents> | null = null
    let cursor: string | null = null
    do {
      const page = await this.#documents.listDocuments(collection, tenant, '', cursor, listMax)
      for (const { id, revision, body } of page.items) {
        if (id === mqttEventsId) mqtt = { value: decodeDocument<MqttEvents>(body), revision }
        else webhooks.push({ value: decodeDocument<Webhook>(body), revision })
      }
      cursor = page.next
    } while (cursor !== null)
    return { webhooks, mqtt }
  }

  /** @throws TwinfoldError `not_found` */
  async get (tenant: string, id: string): Promise<Kept<Webhook>> {
    const document = id === mqttEventsId ? null : await this.#documents.getDocument(collection, tenant, id)
    if (document === null) throw new TwinfoldError('not_found', `there is no webhook '${id}'`)
    return { value: decodeDocument<Webhook>(document.body), revision: document.revision }
  }

  /** false: the id is taken. */
  async create (tenant: string, webhook: Webhook): Promise<boolean> {
    return await this.#documents.putDocument(collection, tenant, webhook.id, encodeDocument(webhook), 0)
  }

  /** One step after the other, each on the newest state. @param step null: nothing is to be changed; @throws TwinfoldError `not_found` */
  async change (tenant: string, id: string, step: (webhook: Webhook) => Webhook | null): Promise<Webhook> {
    for (let tries = 0; tries < triesMax; tries++) {
      const { value, revision } = await this.get(tenant, id)
      const changed = step(value)
      if (changed === null) return value
      if (await this.#documents.putDocument(collection, tenant, id, encodeDocument(changed), revision)) return changed
    }
    throw new TwinfoldError('store_unavailable', 'the webhook is changed by others all the time; try again')
  }

  /** @throws TwinfoldError `not_found` */
  async delete (tenant: string, id: string): Promise<void> {
    for (let tries = 0; tries < triesMax; tries++) {
      const { revision } = await this.get(tenant, id)
      if (await this.#documents.deleteDocument(collection, tenant, id, revision)) return
    }
    throw new TwinfoldError('store_unavailable', 'the webhook is changed by others all the time; try again')
  }

  async getMqtt (tenant: string): Promise<Kept<MqttEvents> | null> {
    const document = await this.#documents.getDocument(collection, tenant, mqttEventsId)
    return document === null ? null : { value: decodeDocument<MqttEvents>(document.body), revision: document.revision }
  }

  async setMqtt (tenant: string, step: (before: MqttEvents | null) => MqttEvents): Promise<MqttEvents> {
    for (let tries = 0; tries < triesMax; tries++) {
      const before = await this.getMqtt(tenant)
      const changed = step(before?.value ?? null)
      if (await this.#documents.putDocument(collection, tenant, mqttEventsId, encodeDocument(changed), before?.revision ?? 0)) return changed
    }
    throw new TwinfoldError('store_unavailable', 'the setting is changed by others all the time; try again')
  }
}
