/**
 * Devices: the truth is a row of its own, written conditionally alone, so that changes follow one another whatever the clocks
 * say. The lists that lead to it have plain rows, whose keys name the creation (`incarnation`) or the change (`revision`) that
 * they belong to: none is ever removed on behalf of another, in whatever order creations, changes and deletions of one id run.
 *
 * A row of a list is written before the truth that it leads to, and removed after it. What a crash in between leaves behind
 * leads nowhere, or to a device that no longer is in that list; readers pass over it.
 */
import { randomUUID } from 'node:crypto'
import { TwinfoldError } from '../../../core/errors.js'
import { isDeviceId, isTenantId } from '../../../core/ids.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { Device } from '../../../tenancy/model.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { allSalts, decodeCursor, pageOf, saltOf, saltPageRows } from './salted.js'
import { tidyUp, writeSettled } from './settled-write.js'

/** Changes of one device by others that one change gives way to. */
const changeAttemptsMax = 16

interface StoredDevice {
  readonly device: Device
  readonly incarnation: string
  readonly revision: string
}

/** What the credentials of a device do when it goes. */
export interface DeviceCredentials {
  /** Removes those that were made for that incarnation of the device. */
  removeOf(tenant: string, device: string, incarnation: string): Promise<void>
}

export class CassandraDevices {
  readonly #client: CassandraClient
  readonly #newId: () => string
  /** Changes of one device by this thread queue up here: among themselves they would only wear out Cassandra's rounds. */
  readonly #locks = new KeyedLock()

  /** @param options.newId names incarnations and revisions; unique for good. Default: a random UUID. */
  constructor (client: CassandraClient, options: { newId?: () => string } = {}) {
    this.#client = client
    this.#newId = options.newId ?? randomUUID
  }

  /** @throws TwinfoldError `invalid_field` */
  async create (device: Device): Promise<boolean> {
    const { tenant, id } = device
    if (!isDeviceId(id)) throw new TwinfoldError('invalid_field', 'a device id has 1 to 128 characters of A-Z a-z 0-9 . _ : @ -', { field: 'id' })
    return await this.#locks.run(`${tenant} ${id}`, async () => {
      // Most ids that are taken are taken for long: no rows are written in vain.
      if (await this.#read(tenant, id) !== null) return false
      const incarnation = this.#newId()
      await this.#client.write('INSERT INTO device_by_tenant (tenant, salt, id, incarnation) VALUES (?, ?, ?, ?)', [tenant, saltOf(id), id, incarnation])
      await this.#client.writeAll(gatewayRows(device, incarnation, true))
      const { applied } = await writeSettled(this.#client, {
        cql: 'INSERT INTO device (tenant, id, body, incarnation, revision) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS',
        parameters: [tenant, id, JSON.stringify(device), incarnation, incarnation]
      }, row => row?.incarnation === incarnation)
      if (!applied) await tidyUp(this.#removeRows(device, incarnation, incarnation))
      return applied
    })
  }

  async get (tenant: string, id: string): Promise<Device | null> {
    return (await this.#read(tenant, id))?.device ?? null
  }

  /** Names the creation that the device comes from, '' where there is none. */
  async incarnationOf (tenant: string, id: string): Promise<string> {
    return (await this.#read(tenant, id))?.incarnation ?? ''
  }

  /**
   * Of two changes at once the one that Cassandra orders last stays, whole.
   * @throws TwinfoldError `not_found`, `store_unavailable`
   */
  async update (device: Device): Promise<void> {
    const { tenant, id } = device
    await this.#locks.run(`${tenant} ${id}`, async () => {
      for (let attempt = 1; attempt <= changeAttemptsMax; attempt++) {
        const stored = await this.#read(tenant, id)
        if (stored === null) throw new TwinfoldError('not_found', `there is no device '${id}'`)
        if (await this.#replace(stored, device)) return
      }
      throw new TwinfoldError('store_unavailable', `device '${id}' is being changed by too many at once`)
    })
  }

  /** False when it was changed or deleted meanwhile. */
  async #replace (stored: StoredDevice, device: Device): Promise<boolean> {
    const { tenant, id } = device
    const revision = this.#newId()
    await this.#client.writeAll(gatewayRows(device, revision, true))
    const { applied } = await writeSettled(this.#client, {
      cql: 'UPDATE device SET body = ?, revision = ? WHERE tenant = ? AND id = ? IF revision = ?',
      parameters: [JSON.stringify(device), revision, tenant, id, stored.revision]
    }, row => row?.revision === revision)
    await tidyUp(this.#client.writeAll(applied ? gatewayRows(stored.device, stored.revision, false) : gatewayRows(device, revision, false)))
    return applied
  }

  /**
   * Its credentials go first, so that after a crash the device is still there and can be deleted again; and once more after
   * it, for those that were made meanwhile.
   */
  async delete (tenant: string, id: string, credentials: DeviceCredentials): Promise<boolean> {
    return await this.#locks.run(`${tenant} ${id}`, async () => {
      const stored = await this.#read(tenant, id)
      if (stored === null) return false
      const { device, incarnation, revision } = stored
      await credentials.removeOf(tenant, id, incarnation)
      const { applied } = await writeSettled(this.#client, {
        cql: 'DELETE FROM device WHERE tenant = ? AND id = ? IF incarnation = ?',
        parameters: [tenant, id, incarnation]
      }, row => (row?.incarnation ?? null) !== incarnation)
      if (!applied) return false
      await credentials.removeOf(tenant, id, incarnation)
      await tidyUp(this.#removeRows(device, incarnation, revision))
      return true
    })
  }

  async list (tenant: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    const after = decodeCursor(cursor) ?? ''
    const cql = 'SELECT id FROM device_by_tenant WHERE tenant = ? AND salt = ? AND id > ?'
    const sources = allSalts.map(salt => this.#client.stream(cql, [tenant, salt, after], saltPageRows(limit)))
    return await pageOf({
      rows: mergeOrdered(sources, (a, b) => (a.id as string) < (b.id as string)),
      idOf: row => row.id as string,
      itemOf: async row => await this.get(tenant, row.id as string),
      limit
    })
  }

  async listOfGateway (tenant: string, gateway: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    const after = decodeCursor(cursor) ?? ''
    return await pageOf<Row, Device>({
      rows: this.#client.stream('SELECT id FROM device_by_gateway WHERE tenant = ? AND gateway = ? AND id > ?', [tenant, gateway, after], limit + 1),
      idOf: row => row.id as string,
      itemOf: async row => {
        const device = await this.get(tenant, row.id as string)
        return device?.gatewayId === gateway ? device : null
      },
      limit
    })
  }

  async #read (tenant: string, id: string): Promise<StoredDevice | null> {
    if (!isTenantId(tenant) || !isDeviceId(id)) return null
    const [row] = await this.#client.read('SELECT body, incarnation, revision FROM device WHERE tenant = ? AND id = ?', [tenant, id])
    if (row === undefined) return null
    return { device: JSON.parse(row.body as string) as Device, incarnation: row.incarnation as string, revision: row.revision as string }
  }

  async #removeRows (device: Device, incarnation: string, revision: string): Promise<void> {
    const { tenant, id } = device
    await this.#client.writeAll([
      { cql: 'DELETE FROM device_by_tenant WHERE tenant = ? AND salt = ? AND id = ? AND incarnation = ?', parameters: [tenant, saltOf(id), id, incarnation] },
      ...gatewayRows(device, revision, false)
    ])
  }
}

function gatewayRows ({ tenant, gatewayId, id }: Device, revision: string, present: boolean): Statement[] {
  if (gatewayId === null) return []
  return [{
    cql: present
      ? 'INSERT INTO device_by_gateway (tenant, gateway, id, revision) VALUES (?, ?, ?, ?)'
      : 'DELETE FROM device_by_gateway WHERE tenant = ? AND gateway = ? AND id = ? AND revision = ?',
    parameters: [tenant, gatewayId, id, revision]
  }]
}
