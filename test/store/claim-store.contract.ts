/** What every implementation of the claim port keeps (src/store/claim-store.ts). */
import type { Test } from 'tap'
import { newTenantId, type OpenStore } from './store-fixtures.js'
import { setTimeout as pause } from 'node:timers/promises'

const long = 600_000

export function claimStoreContract (t: Test, open: OpenStore): void {
  void t.test('claims: one owner holds it until its lease ends, and no epoch is given twice', async t => {
    const store = await open()
    const name = newTenantId('claim')
    const first = await store.takeClaim(name, 'a', 300)
    t.ok(first !== null && first.epoch >= 1)
    t.equal(await store.takeClaim(name, 'b', long), null)
    t.strictSame(await store.takeClaim(name, 'a', 300), first, 'a renewal keeps the epoch')
    await pause(700)
    const second = await store.takeClaim(name, 'b', long)
    t.ok(second !== null && first !== null && second.epoch > first.epoch)
    t.equal(await store.takeClaim(name, 'a', long), null, 'who was paused past the lease has lost it')
  })

  void t.test('claims: the owner keeps it past its lease as long as nobody else took it', async t => {
    const store = await open()
    const name = newTenantId('claim')
    const first = await store.takeClaim(name, 'a', 1)
    await pause(20)
    t.strictSame(await store.takeClaim(name, 'a', long), first)
    t.equal(await store.takeClaim(name, 'b', long), null)
  })

  void t.test('claims: what is given back is free at once, with a new epoch; others cannot give it back', async t => {
    const store = await open()
    const name = newTenantId('claim')
    const first = await store.takeClaim(name, 'a', long)
    await store.releaseClaim(name, 'b')
    t.equal(await store.takeClaim(name, 'b', long), null)
    await store.releaseClaim(name, 'a')
    const second = await store.takeClaim(name, 'b', long)
    t.ok(first !== null && second !== null && second.epoch > first.epoch)
    await store.releaseClaim(name, 'b')
    const third = await store.takeClaim(name, 'b', long)
    t.ok(second !== null && third !== null && third.epoch >= second.epoch)
    await store.releaseClaim(newTenantId('claim'), 'a')
  })

  void t.test('claims: of many who take one at once a single one has it', async t => {
    const store = await open()
    for (let round = 0; round < 3; round++) {
      const name = newTenantId('claim')
      const taken = await Promise.all(Array.from({ length: 8 }, async (_, i) => await store.takeClaim(name, `o${i}`, long)))
      t.equal(taken.filter(claim => claim !== null).length, 1)
    }
  })

  void t.test('claims: each name is a claim of its own', async t => {
    const store = await open()
    const name = newTenantId('claim')
    t.not(await store.takeClaim(name, 'a', long), null)
    t.not(await store.takeClaim(`${name}/1`, 'b', long), null)
    t.equal(await store.takeClaim(name, 'b', long), null)
  })
}
