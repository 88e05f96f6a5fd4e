/**
 * Port: tenants, devices and credentials. Creations are conditional (create-if-absent); readers in other threads
 * or nodes may see a change up to the lease of their cache later. All of it survives SIGKILL and power loss
 * (writes are synced).
 */
import type { Credential, Device, Tenant } from '../tenancy/model.js'

export interface Page<T> {
  readonly items: readonly T[]
  /** Opaque; null at the end. */
  readonly next: string | null
}

export interface RegistryStore {
  /** False when the id is taken; nothing is changed then. */
  createTenant(tenant: Tenant): Promise<boolean>
  getTenant(id: string): Promise<Tenant | null>
  updateTenant(tenant: Tenant): Promise<void>
  listTenants(cursor: string | null, limit: number): Promise<Page<Tenant>>

  /** False when the id is taken; nothing is changed then. */
  createDevice(device: Device): Promise<boolean>
  getDevice(tenant: string, id: string): Promise<Device | null>
  updateDevice(device: Device): Promise<void>
  /** True when it existed. Its credentials go with it. */
  deleteDevice(tenant: string, id: string): Promise<boolean>
  /** In order of id. */
  listDevices(tenant: string, cursor: string | null, limit: number): Promise<Page<Device>>
  /** Devices whose `gatewayId` is the given one, in order of id. */
  listDevicesOfGateway(tenant: string, gatewayId: string, cursor: string | null, limit: number): Promise<Page<Device>>

  putCredential(credential: Credential): Promise<void>
  getCredential(hash: string): Promise<Credential | null>
  /** Credentials of a tenant (null: of the platform), in order of public id. */
  listCredentials(tenant: string | null, cursor: string | null, limit: number): Promise<Page<Credential>>
  /** The one deleted, or null. */
  deleteCredential(tenant: string | null, id: string): Promise<Credential | null>
}
