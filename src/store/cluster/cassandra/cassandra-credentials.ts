/**
 * Credentials: the truth is the row by hash, written conditionally alone. With plain writes a revocation by a node whose clock
 * is behind would leave a fresh credential valid.
 *
 * Rows of the lists are written before it and removed after it, so a credential that works is always listed, and one that was
 * revoked does not work from then on, wherever the rest was interrupted.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { Credential } from '../../../tenancy/model.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { Page } from '../../registry.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import type { CassandraDevices, DeviceCredentials } from './cassandra-devices.js'
import { allSalts, decodeCursor, pageOf, saltOf, saltPageRows } from './salted.js'
import { tidyUp, writeSettled } from './settled-write.js'

/** Stored in place of the tenant for platform credentials; no tenant has this id. */
const platform = ''
/** Writes of one hash by others that one write gives way to. */
const writeAttemptsMax = 8
const devicePageRows = 100

export class CassandraCredentials implements DeviceCredentials {
  readonly #client: CassandraClient
  readonly #devices: CassandraDevices
  readonly #locks = new KeyedLock()

  constructor (client: CassandraClient, devices: CassandraDevices) {
    this.#client = client
    this.#devices = devices
  }

  /** @throws TwinfoldError `not_found` when its device was deleted meanwhile: it is not valid then. */
  async put (credential: Credential): Promise<void> {
    await this.#locks.run(credential.hash, async () => {
      const { tenant, device, hash } = credential
      const incarnation = tenant === null || device === null ? '' : await this.#devices.incarnationOf(tenant, device)
      const replaced = await this.get(hash)
      await this.#client.writeAll(listRows(credential, incarnation))
      await this.#write(hash, JSON.stringify(credential))
      if (replaced !== null) {
        const kept = new Set(listKeys(credential))
        await tidyUp(this.#client.writeAll(removals(replaced, key => !kept.has(key))))
      }
      // The deletion of a device looks for credentials after it; this looks for the device after the credential. One sees the other.
      if (incarnation === '' || await this.#devices.incarnationOf(tenant as string, device as string) === incarnation) return
      await this.#remove(credential)
      throw new TwinfoldError('not_found', `device '${device}' was deleted meanwhile`)
    })
  }

  async get (hash: string): Promise<Credential | null> {
    const [row] = await this.#client.read('SELECT body FROM credential WHERE hash = ?', [hash])
    return row === undefined ? null : JSON.parse(row.body as string) as Credential
  }

  async list (tenant: string | null, cursor: string | null, limit: number): Promise<Page<Credential>> {
    const after = decodeCursor(cursor) ?? ''
    const cql = 'SELECT id, hash FROM credential_by_tenant WHERE tenant = ? AND salt = ? AND id > ?'
    const sources = allSalts.map(salt => this.#client.stream(cql, [tenant ?? platform, salt, after], saltPageRows(limit)))
    return await pageOf<Row, Credential>({
      rows: mergeOrdered(sources, (a, b) => (a.id as string) < (b.id as string)),
      idOf: row => row.id as string,
      itemOf: async row => await this.#getOf(row.hash as string, tenant, row.id as string),
      limit
    })
  }

  async delete (tenant: string | null, id: string): Promise<Credential | null> {
    const [row] = await this.#client.read('SELECT hash FROM credential_by_tenant WHERE tenant = ? AND salt = ? AND id = ?', [tenant ?? platform, saltOf(id), id])
    if (row === undefined) return null
    const hash = row.hash as string
    return await this.#locks.run(hash, async () => {
      const credential = await this.#getOf(hash, tenant, id)
      // A row that leads nowhere stays: it may belong to a credential that is being made.
      return credential !== null && await this.#remove(credential) ? credential : null
    })
  }

  async removeOf (tenant: string, device: string, incarnation: string): Promise<void> {
    const rows = this.#client.stream('SELECT id, hash, incarnation FROM credential_by_device WHERE tenant = ? AND device = ?', [tenant, device], devicePageRows)
    for await (const row of rows) {
      if (row.incarnation !== incarnation && row.incarnation !== '') continue
      const credential = await this.#getOf(row.hash as string, tenant, row.id as string)
      if (credential !== null && credential.device === device) await this.#remove(credential)
    }
  }

  /** The credential where the row by hash is the one that a list's row means. */
  async #getOf (hash: string, tenant: string | null, id: string): Promise<Credential | null> {
    const credential = await this.get(hash)
    return credential !== null && credential.id === id && credential.tenant === tenant ? credential : null
  }

  /** False when another has removed or replaced it meanwhile. */
  async #remove (credential: Credential): Promise<boolean> {
    const body = JSON.stringify(credential)
    const { applied } = await writeSettled(this.#client, {
      cql: 'DELETE FROM credential WHERE hash = ? IF body = ?',
      parameters: [credential.hash, body]
    }, row => (row?.body ?? null) !== body)
    if (applied) await tidyUp(this.#client.writeAll(removals(credential, () => true)))
    return applied
  }

  async #write (hash: string, body: string): Promise<void> {
    for (let attempt = 1; attempt <= writeAttemptsMax; attempt++) {
      const isOurs = (row: Row | null): boolean => row?.body === body
      const { applied, row } = await writeSettled(this.#client, { cql: 'INSERT INTO credential (hash, body) VALUES (?, ?) IF NOT EXISTS', parameters: [hash, body] }, isOurs)
      if (applied || isOurs(row)) return
      const update = { cql: 'UPDATE credential SET body = ? WHERE hash = ? IF body = ?', parameters: [body, hash, row?.body] }
      if ((await writeSettled(this.#client, update, isOurs)).applied) return
    }
    throw new TwinfoldError('store_unavailable', 'a credential is being written by too many at once')
  }
}

function listRows ({ tenant, device, id, hash }: Credential, incarnation: string): Statement[] {
  const rows: Statement[] = [{
    cql: 'INSERT INTO credential_by_tenant (tenant, salt, id, hash) VALUES (?, ?, ?, ?)',
    parameters: [tenant ?? platform, saltOf(id), id, hash]
  }]
  if (tenant !== null && device !== null) {
    rows.push({
      cql: 'INSERT INTO credential_by_device (tenant, device, id, hash, incarnation) VALUES (?, ?, ?, ?, ?)',
      parameters: [tenant, device, id, hash, incarnation]
    })
  }
  return rows
}

/** What tells a credential's rows in the lists apart: the one by tenant, and the one by device where there is one. */
function listKeys ({ tenant, device, id }: Credential): string[] {
  const byTenant = JSON.stringify([tenant ?? platform, id])
  return tenant === null || device === null ? [byTenant] : [byTenant, JSON.stringify([tenant, device, id])]
}

/** Removes the rows of the lists whose key is chosen. */
function removals (credential: Credential, chosen: (key: string) => boolean): Statement[] {
  const { tenant, device, id } = credential
  const statements = [
    { cql: 'DELETE FROM credential_by_tenant WHERE tenant = ? AND salt = ? AND id = ?', parameters: [tenant ?? platform, saltOf(id), id] },
    { cql: 'DELETE FROM credential_by_device WHERE tenant = ? AND device = ? AND id = ?', parameters: [tenant, device, id] }
  ]
  return listKeys(credential).flatMap((key, i) => chosen(key) ? [statements[i]] : [])
}
