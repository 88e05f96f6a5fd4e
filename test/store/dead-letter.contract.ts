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

  void t.test('dead letters: over hours and days they come in one order, and trimming keeps the newest of all', async t => {
    const store = await open()
    const tenant = newTenantId()
    const letters = Array.from({ length: 120 }, (_, i) => letterOf(tenant, Math.floor(i ** 2.5) * 60e6, { reason: i % 4 === 0 ? 'ts_future' : 'json_invalid', device: i % 5 === 0 ? '' : 'd' }))
    for (let at = 0; at < letters.length; at += 50) await store.putDeadLetters(letters.slice(at, at + 50))
    const ids = (some: readonly DeadLetter[]): string[] => some.map(letter => letter.id)
    const list = async (filter: Parameters<typeof store.listDeadLetters>[1], limit: number): Promise<string[]> => {
      const listed: string[] = []
      let cursor: string | null = null
      do {
        const page = await store.listDeadLetters(tenant, filter, cursor, limit)
        listed.push(...ids(page.items))
        cursor = page.next
      } while (cursor !== null)
      return listed
    }
    const newestFirst = [...new Map(letters.map(letter => [letter.id, letter])).values()].reverse()
    t.strictSame(await list({}, 17), ids(newestFirst))
    t.strictSame(await list({ reason: 'ts_future' }, 5), ids(newestFirst.filter(letter => letter.reason === 'ts_future')))
    t.strictSame(await list({ device: '' }, 7), ids(newestFirst.filter(letter => letter.device === '')))
    t.strictSame(await list({ device: 'none' }, 7), [])
    t.equal(await store.deleteDeadLetters(tenant, [newestFirst[0].id, newestFirst[50].id]), 2)
    const left = newestFirst.filter((_, i) => i !== 0 && i !== 50)
    for (const countMax of [90, 89, 40, 1]) {
      const before = (await list({}, 100)).length
      t.equal(await store.trimDeadLetters(tenant, countMax, 1e9), before - countMax)
      t.strictSame(await list({}, 100), ids(left.slice(0, countMax)), `${countMax} left`)
      for (const letter of left.slice(countMax, countMax + 3)) t.equal(await store.getDeadLetter(tenant, letter.id), null)
    }
    await store.putDeadLetters([letterOf(tenant, 1e15)])
    t.strictSame(await list({}, 100), [letterOf(tenant, 1e15).id, left[0].id])
    t.equal(await store.trimDeadLetters(tenant, 0, 1e9), 2)
    t.strictSame(await list({}, 100), [])
    t.notOk((await store.deadLetterTenants()).includes(tenant))
    await store.putDeadLetters([letterOf(tenant, 1e15 + 1)])
    t.ok((await store.deadLetterTenants()).includes(tenant), 'and it is there again with its next letter')
  })

  void t.test('dead letters: a thousand of one slice, and large ones, are kept byte for byte', async t => {
    const store = await open()
    const tenant = newTenantId()
    const letters = Array.from({ length: 1000 }, (_, i) => letterOf(tenant, 0, { id: `${letterOf(tenant, 0).stamp}-${String(i).padStart(4, '0')}`, payload: Buffer.alloc(i % 100 === 0 ? 65_536 : i % 50, i), payloadBytes: i === 0 ? 300_000 : 5, ...(i % 2 === 0 ? { multiDevice: true } as const : {}) }))
    await store.putDeadLetters(letters)
    const page = await store.listDeadLetters(tenant, {}, null, 1000)
    t.equal(page.next, null)
    t.equal(page.items.length, 1000)
    const expected = [...letters].reverse()
    t.ok(page.items.every((letter, i) => letter.id === expected[i].id && Buffer.compare(letter.payload, expected[i].payload) === 0 && letter.multiDevice === expected[i].multiDevice))
    t.strictSame({ ...page.items[999], payload: null }, { ...letters[0], payload: null })
  })
}
