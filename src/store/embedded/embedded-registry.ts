/**
 * Tenants, devices, credentials and partition plans in `meta`. Only the owner's store writes them (the main thread is the one
 * writer of a process), so a lock per key is all that conditional writes need. Writes are on stable storage when they resolve.
 */
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId, isTenantId } from '../../core/ids.js'
import { defaultPlan, type PartitionPlan } from '../../series/partition-plan.js'
import type { Credential, Device, Tenant } from '../../tenancy/model.js'
import type { PlanStore, VersionedPlan } from '../plan-store.js'
import type { Page, RegistryStore } from '../registry.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { del, emptyValue, put, type Operation } from './level.js'
import type { Meta } from './meta.js'
import { jsonValue, metaKey, metaTables, parseJson, textsOf } from './meta-keys.js'
import { rangeOf } from './key-bytes.js'

/** Stored in place of the tenant in keys of platform credentials; no tenant has this id. */
const platform = ''

export class EmbeddedRegistry implements RegistryStore, PlanStore {
  readonly #meta: Meta
  readonly #writes: boolean
  readonly #locks = new KeyedLock()

  constructor (meta: Meta, options: { writes: boolean }) {
    this.#meta = meta
    this.#writes = options.writes
  }

  async createTenant (tenant: Tenant): Promise<boolean> {
    if (!isTenantId(tenant.id)) throw new TwinfoldError('invalid_field', 'a tenant id has 1 to 64 characters of a-z 0-9 _ -', { field: 'id' })
    return await this.#createRow(metaKey(metaTables.tenant, tenant.id), tenant)
  }

  async getTenant (id: string): Promise<Tenant | null> {
    return isTenantId(id) ? await this.#json<Tenant>(metaKey(metaTables.tenant, id)) : null
  }

  /** @throws TwinfoldError `not_found` */
  async updateTenant (tenant: Tenant): Promise<void> {
    await this.#exclusively(metaKey(metaTables.tenant, tenant.id), async key => {
      if (await this.#meta.get(key) === null) throw new TwinfoldError('not_found', `there is no tenant '${tenant.id}'`)
      await this.#meta.writeSynced([put(key, jsonValue(tenant))])
    })
  }

  async listTenants (cursor: string | null, limit: number): Promise<Page<Tenant>> {
    return await this.#meta.page(metaKey(metaTables.tenant), cursor, limit, ([, value]) => parseJson<Tenant>(value))
  }

  async createDevice (device: Device): Promise<boolean> {
    if (!isDeviceId(device.id)) throw new TwinfoldError('invalid_field', 'a device id has 1 to 128 characters of A-Z a-z 0-9 . _ : @ -', { field: 'id' })
    return await this.#createRow(metaKey(metaTables.device, device.tenant, device.id), device, gatewayRows(device, true))
  }

  async getDevice (tenant: string, id: string): Promise<Device | null> {
    return isTenantId(tenant) && isDeviceId(id) ? await this.#json<Device>(metaKey(metaTables.device, tenant, id)) : null
  }

  /** @throws TwinfoldError `not_found` */
  async updateDevice (device: Device): Promise<void> {
    await this.#exclusively(metaKey(metaTables.device, device.tenant, device.id), async key => {
      const stored = await this.#json<Device>(key)
      if (stored === null) throw new TwinfoldError('not_found', `there is no device '${device.id}'`)
      await this.#meta.writeSynced([...gatewayRows(stored, false), ...gatewayRows(device, true), put(key, jsonValue(device))])
    })
  }

  async deleteDevice (tenant: string, id: string): Promise<boolean> {
    if (!isTenantId(tenant) || !isDeviceId(id)) return false
    return await this.#exclusively(metaKey(metaTables.device, tenant, id), async key => {
      const stored = await this.#json<Device>(key)
      if (stored === null) return false
      const operations: Operation[] = [del(key), ...gatewayRows(stored, false)]
      await this.#meta.scan(rangeOf(metaKey(metaTables.credentialOf, tenant, id)), ([row, hash]) => {
        operations.push(del(row), del(metaKey(metaTables.credential, hash.toString('latin1'))), del(metaKey(metaTables.credentialId, tenant, textsOf(row)[2])))
        return true
      })
      await this.#meta.writeSynced(operations)
      return true
    })
  }

  async listDevices (tenant: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    return await this.#meta.page(metaKey(metaTables.device, tenant), cursor, limit, ([, value]) => parseJson<Device>(value))
  }

  async listDevicesOfGateway (tenant: string, gatewayId: string, cursor: string | null, limit: number): Promise<Page<Device>> {
    const page = await this.#meta.page(metaKey(metaTables.gateway, tenant, gatewayId), cursor, limit, ([key]) => textsOf(key)[2])
    const devices = await Promise.all(page.items.map(async id => await this.getDevice(tenant, id)))
    // One that was deleted between the two looks is left out.
    return { items: devices.filter(device => device !== null), next: page.next }
  }

  async putCredential (credential: Credential): Promise<void> {
    await this.#exclusively(metaKey(metaTables.credential, credential.hash), async key => {
      const stored = await this.#json<Credential>(key)
      const operations = stored === null ? [] : credentialRows(stored).map(row => del(row))
      const hash = Buffer.from(credential.hash, 'latin1')
      for (const row of credentialRows(credential)) operations.push(put(row, hash))
      await this.#meta.writeSynced([...operations, put(key, jsonValue(credential))])
    })
  }

  async getCredential (hash: string): Promise<Credential | null> {
    return await this.#json<Credential>(metaKey(metaTables.credential, hash))
  }

  async listCredentials (tenant: string | null, cursor: string | null, limit: number): Promise<Page<Credential>> {
    const page = await this.#meta.page(metaKey(metaTables.credentialId, tenant ?? platform), cursor, limit, ([, hash]) => hash.toString('latin1'))
    const credentials = await Promise.all(page.items.map(async hash => await this.getCredential(hash)))
    return { items: credentials.filter(credential => credential !== null), next: page.next }
  }

  async deleteCredential (tenant: string | null, id: string): Promise<Credential | null> {
    const hash = await this.#meta.get(metaKey(metaTables.credentialId, tenant ?? platform, id))
    if (hash === null) return null
    return await this.#exclusively(metaKey(metaTables.credential, hash.toString('latin1')), async key => {
      const stored = await this.#json<Credential>(key)
      if (stored === null || stored.id !== id || stored.tenant !== tenant) return null
      await this.#meta.writeSynced([del(key), ...credentialRows(stored).map(row => del(row))])
      return stored
    })
  }

  async getPlan (tenant: string, device: string): Promise<VersionedPlan> {
    return await this.#json<VersionedPlan>(metaKey(metaTables.plan, tenant, device)) ?? { plan: defaultPlan, version: 0 }
  }

  async putPlanIfVersion (tenant: string, device: string, plan: PartitionPlan, version: number): Promise<boolean> {
    return await this.#exclusively(metaKey(metaTables.plan, tenant, device), async key => {
      const stored = await this.#json<VersionedPlan>(key)
      if ((stored?.version ?? 0) !== version) return false
      await this.#meta.writeSynced([put(key, jsonValue({ plan, version: version + 1 } satisfies VersionedPlan))])
      return true
    })
  }

  async #createRow (key: Buffer, value: unknown, more: readonly Operation[] = []): Promise<boolean> {
    return await this.#exclusively(key, async () => {
      if (await this.#meta.get(key) !== null) return false
      await this.#meta.writeSynced([put(key, jsonValue(value)), ...more])
      return true
    })
  }

  async #json<T> (key: Buffer): Promise<T | null> {
    const value = await this.#meta.get(key)
    return value === null ? null : parseJson<T>(value)
  }

  async #exclusively<T> (key: Buffer, action: (key: Buffer) => Promise<T>): Promise<T> {
    if (!this.#writes) throw new TwinfoldError('internal', 'only the main thread writes the registry and the plans')
    return await this.#locks.run(key.toString('latin1'), async () => await action(key))
  }
}

function gatewayRows (device: Device, present: boolean): Operation[] {
  if (device.gatewayId === null) return []
  const key = metaKey(metaTables.gateway, device.tenant, device.gatewayId, device.id)
  return [present ? put(key, emptyValue) : del(key)]
}

/** The rows that lead to a credential. */
function credentialRows (credential: Credential): Buffer[] {
  const rows = [metaKey(metaTables.credentialId, credential.tenant ?? platform, credential.id)]
  if (credential.tenant !== null && credential.device !== null) rows.push(metaKey(metaTables.credentialOf, credential.tenant, credential.device, credential.id))
  return rows
}
