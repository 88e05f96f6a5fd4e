/**
 * The registry: tenants here, devices and credentials by their own classes. A tenant is one row, written conditionally alone:
 * creations have one winner, and of two changes at once the one that Cassandra orders last stays, whole.
 */
import { randomUUID } from 'node:crypto'
import { TwinfoldError } from '../../../core/errors.js'
import { isTenantId } from '../../../core/ids.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { Credential, Device, Tenant } from '../../../tenancy/model.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page, RegistryStore } from '../../registry.js'
import type { CassandraClient } from './cassandra-client.js'
import { CassandraCredentials } from './cassandra-credentials.js'
import { CassandraDevices } from './cassandra-devices.js'
import { allSalts, decodeCursor, pageOf, saltOf, saltPageRows } from './salted.js'
import { writeSettled } from './settled-write.js'

export class CassandraRegistry implements RegistryStore {
  readonly #client: CassandraClient
  readonly #newId: () => string
  readonly #devices: CassandraDevices
  readonly #credentials: CassandraCredentials
  readonly #locks = new KeyedLock()

  /** @param options.newId names writes; unique for good. Default: a random UUID. */
  constructor (client: CassandraClient, options: { newId?: () => string } = {}) {
    this.#client = client
    this.#newId = options.newId ?? randomUUID
    this.#devices = new CassandraDevices(client, options)
    this.#credentials = new CassandraCredentials(client, this.#devices)
  }

  /** @throws TwinfoldError `invalid_field` */
  async createTenant (tenant: Tenant): Promise<boolean> {
    const { id } = tenant
    if (!isTenantId(id)) throw new TwinfoldError('invalid_field', 'a tenant id has 1 to 64 characters of a-z 0-9 _ -', { field: 'id' })
    return await this.#locks.run(id, async () => {
      const writer = this.#newId()
      const { applied } = await writeSettled(this.#client, {
        cql: 'INSERT INTO tenant (salt, id, body, writer) VALUES (?, ?, ?, ?) IF NOT EXISTS',
        parameters: [saltOf(id), id, JSON.stringify(tenant), writer]
      }, row => row?.writer === writer)
      return applied
    })
  }

  async getTenant (id: string): Promise<Tenant | null> {
    if (!isTenantId(id)) return null
    const [row] = await this.#client.read('SELECT body FROM tenant WHERE salt = ? AND id = ?', [saltOf(id), id])
    return row === undefined ? null : JSON.parse(row.body as string) as Tenant
  }

  /** @throws TwinfoldError `not_found` */
  async updateTenant (tenant: Tenant): Promise<void> {
    const { id } = tenant
    await this.#locks.run(id, async () => {
      // Sent again after an unknown outcome it does no harm: it writes the same.
      const { applied } = await writeSettled(this.#client, {
        cql: 'UPDATE tenant SET body = ?, writer = ? WHERE salt = ? AND id = ? IF EXISTS',
        parameters: [JSON.stringify(tenant), this.#newId(), saltOf(id), id]
      }, () => false)
      if (!applied) throw new TwinfoldError('not_found', `there is no tenant '${id}'`)
    })
  }

  async listTenants (cursor: string | null, limit: number): Promise<Page<Tenant>> {
    const after = decodeCursor(cursor) ?? ''
    const sources = allSalts.map(salt => this.#client.stream('SELECT id, body FROM tenant WHERE salt = ? AND id > ?', [salt, after], saltPageRows(limit)))
    return await pageOf({
      rows: mergeOrdered(sources, (a, b) => (a.id as string) < (b.id as string)),
      idOf: row => row.id as string,
      itemOf: async row => JSON.parse(row.body as string) as Tenant,
      limit
    })
  }

  async createDevice (device: Device): Promise<boolean> {
    return await this.#devices.create(device)
  }

  async getDevice (tenant: string, id: string): Promise<Device | null> {
    return await this.#devices.get(tenant, id)
  }

  async updateDevice (device: Device): Promise<void> {
    await this.#devices.update(device)
  }

  async deleteDevice (tenant: string, id: string): Promise<boolean> {
    return await this.#devices.delete(tenant, id, this.#credentials)
  }

  async listDevices (tenant: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    return await this.#devices.list(tenant, cursor, limit)
  }

  async listDevicesOfGateway (tenant: string, gatewayId: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    return await this.#devices.listOfGateway(tenant, gatewayId, cursor, limit)
  }

  async putCredential (credential: Credential): Promise<void> {
    await this.#credentials.put(credential)
  }

  async getCredential (hash: string): Promise<Credential | null> {
    return await this.#credentials.get(hash)
  }

  async listCredentials (tenant: string | null, cursor: string | null, limit: number): Promise<Page<Credential>> {
    return await this.#credentials.list(tenant, cursor, limit)
  }

  async deleteCredential (tenant: string | null, id: string): Promise<Credential | null> {
    return await this.#credentials.delete(tenant, id)
  }
}
