/** Partition plans: one row a device, written conditionally on the version alone. */
import { randomUUID } from 'node:crypto'
import { defaultPlan, type PartitionPlan } from '../../../series/partition-plan.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { PlanStore, VersionedPlan } from '../../plan-store.js'
import type { CassandraClient } from './cassandra-client.js'
import { writeSettled } from './settled-write.js'

const read = 'SELECT body, version, writer FROM plan WHERE tenant = ? AND device = ?'
const insert = 'INSERT INTO plan (tenant, device, body, version, writer) VALUES (?, ?, ?, 1, ?) IF NOT EXISTS'
const update = 'UPDATE plan SET body = ?, version = ?, writer = ? WHERE tenant = ? AND device = ? IF version = ?'

export class CassandraPlans implements PlanStore {
  readonly #client: CassandraClient
  readonly #newId: () => string
  /** Writers of this thread queue up here: among themselves they would only wear out Cassandra's rounds. */
  readonly #locks = new KeyedLock()

  /** @param options.newId names a write; unique for good. Default: a random UUID. */
  constructor (client: CassandraClient, options: { newId?: () => string } = {}) {
    this.#client = client
    this.#newId = options.newId ?? randomUUID
  }

  async getPlan (tenant: string, device: string): Promise<VersionedPlan> {
    const [row] = await this.#client.read(read, [tenant, device])
    if (row === undefined) return { plan: defaultPlan, version: 0 }
    return { plan: JSON.parse(row.body as string) as PartitionPlan, version: row.version as number }
  }

  async putPlanIfVersion (tenant: string, device: string, plan: PartitionPlan, version: number): Promise<boolean> {
    return await this.#locks.run(`${tenant} ${device}`, async () => {
      const body = JSON.stringify(plan)
      const writer = this.#newId()
      const statement = version === 0
        ? { cql: insert, parameters: [tenant, device, body, writer] }
        : { cql: update, parameters: [body, version + 1, writer, tenant, device, version] }
      let mayBeOurs = false
      const { applied } = await writeSettled(this.#client, statement, row => {
        mayBeOurs = row?.version === version + 1
        return false
      })
      if (applied || !mayBeOurs) return applied
      // The answer to a failed condition names the version alone. Where another has written since, it is false: the caller reads anew.
      const [row] = await this.#client.readSerial(read, [tenant, device])
      return row?.writer === writer
    })
  }
}
