/** What every implementation of the dead-letter port keeps. */
import type { Test } from 'tap'
import type { DeadLetter } from '../../src/store/dead-letter-store.js'
import { newTenantId, type OpenStore } from './store-fixtures.js'

function letterOf (tenant: string, number: number, more: Partial<DeadLetter> = {}): DeadLetter {
  const stamp = 1_700_000_000_000_000 + number
  return {
    tenant, id: `${stamp}-0`, stamp, reason: 'json_invalid', detail: 'no', device: 'd', source: 'mqtt', format: 2,
    payload: Buffer.from(`payload ${number}`), payloadBytes: 100, ...more
  }
}

export function deadLetterContract (t: Test, open: OpenStore): void {
  void t.test('dead letters: kept whole, newest first, page by page', async t => {
    const store = await open()
    const tenant = newTenantId()
    const letters = Array.from({ length: 10 }, (_, i) => letterOf(tenant, i))
    await store.putDeadLetters(letters)
    await store.putDeadLetters(letters.slice(3, 5))
    for (const limit of [1, 4, 10, 50]) {
      const listed: DeadLetter[] = []
      let cursor: string | null = null
      do {
        const page = await store.listDeadLetters(tenant, {}, cursor, limit)
        listed.push(...page.items)
        cursor = page.next
      } while (cursor !== null)
      t.strictSame(listed.map(letter => letter.id), letters.map(letter => letter.id).reverse(), `limit ${limit}`)
      t.strictSame(listed, [...letters].reverse(), 'whole letters')
    }
    t.strictSame(await store.getDeadLetter(tenant, letters[4].id), letters[4])
    t.equal(await store.getDeadLetter(tenant, 'x'), null)
  })

  void t.test('dead letters: filters by reason and device hold over pages', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.putDeadLetters(Array.from({ length: 30 }, (_, i) => letterOf(tenant, i, { reason: i % 3 === 0 ? 'ts_future' : 'json_invalid', device: i % 2 === 0 ? 'd' : 'dd' })))
    const first = await store.listDeadLetters(tenant, { reason: 'ts_future', device: 'd' }, null, 3)
    const second = await store.listDeadLetters(tenant, { reason: 'ts_future', device: 'd' }, first.next, 3)
    t.strictSame([...first.items, ...second.items].map(letter => letter.stamp % 100), [24, 18, 12, 6, 0])
    t.equal(second.next, null)
  })

  void t.test('dead letters: trimming removes the oldest until count and bytes fit', async t => {
    const store = await open()
    const tenant = newTenantId()
    const other = `${tenant}x`
    await store.putDeadLetters([letterOf(other, 0), ...Array.from({ length: 20 }, (_, i) => letterOf(tenant, i, { payload: Buffer.alloc(100) }))])
    t.equal(await store.trimDeadLetters(tenant, 15, 1e9), 5)
    t.equal(await store.trimDeadLetters(tenant, 15, 1e9), 0)
    t.equal(await store.trimDeadLetters(tenant, 15, 350), 12)
    t.strictSame((await store.listDeadLetters(tenant, {}, null, 100)).items.map(letter => letter.stamp % 100), [19, 18, 17])
    t.equal((await store.listDeadLetters(other, {}, null, 100)).items.length, 1)
  })

  void t.test('dead letters: deletion tells how many there were, in this tenant alone', async t => {
    const store = await open()
    const tenant = newTenantId()
    const other = `${tenant}x`
    await store.putDeadLetters([letterOf(tenant, 1), letterOf(tenant, 2), letterOf(other, 1)])
    t.equal(await store.deleteDeadLetters(tenant, [letterOf(tenant, 1).id, letterOf(tenant, 1).id, 'unknown']), 1)
    t.equal(await store.getDeadLetter(tenant, letterOf(tenant, 1).id), null)
    t.not(await store.getDeadLetter(other, letterOf(other, 1).id), null)
    const tenants = await store.deadLetterTenants()
    t.ok(tenants.includes(tenant) && tenants.includes(other))
    await store.trimDeadLetters(other, 0, 0)
    t.notOk((await store.deadLetterTenants()).includes(other))
  })
}
