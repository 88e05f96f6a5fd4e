/** What every implementation of the plan port keeps. */
import type { Test } from 'tap'
import { defaultPlan, type PartitionPlan } from '../../src/series/partition-plan.js'
import { newTenantId, type OpenStore } from './store-fixtures.js'

const salted = (salts: number): PartitionPlan => ({ ...defaultPlan, salts: [...defaultPlan.salts, { fromStamp: 1, salts }] })

export function planContract (t: Test, open: OpenStore): void {
  void t.test('plan: a device without a row has the default plan at version 0', async t => {
    const store = await open()
    t.strictSame(await store.getPlan(newTenantId(), 'd'), { plan: defaultPlan, version: 0 })
  })

  void t.test('plan: a write with another version changes nothing', async t => {
    const store = await open()
    const tenant = newTenantId()
    t.equal(await store.putPlanIfVersion(tenant, 'd', salted(2), 1), false)
    t.equal(await store.putPlanIfVersion(tenant, 'd', salted(2), 0), true)
    t.equal(await store.putPlanIfVersion(tenant, 'd', salted(9), 0), false)
    t.strictSame(await store.getPlan(tenant, 'd'), { plan: salted(2), version: 1 })
    t.equal(await store.putPlanIfVersion(tenant, 'd', salted(3), 1), true)
    t.strictSame(await store.getPlan(tenant, 'd'), { plan: salted(3), version: 2 })
    t.strictSame((await store.getPlan(tenant, 'd2')).version, 0)
  })

  void t.test('plan: of writers with the same version exactly one succeeds, and versions grow by one', async t => {
    const store = await open()
    const tenant = newTenantId()
    for (let version = 0; version < 5; version++) {
      const outcomes = await Promise.all(Array.from({ length: 12 }, async (_, i) => await store.putPlanIfVersion(tenant, 'd', salted(i + 2), version)))
      t.equal(outcomes.filter(Boolean).length, 1, `version ${version}`)
      t.strictSame(await store.getPlan(tenant, 'd'), { plan: salted(outcomes.indexOf(true) + 2), version: version + 1 })
    }
  })
}
