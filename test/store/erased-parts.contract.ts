/** What every implementation keeps of erasures of metrics and ranges. */
import type { Test } from 'tap'
import { erasedPartsMax, type ErasedPart, type Erasure } from '../../src/store/small-stores.js'
import { newTenantId, type OpenStore } from './store-fixtures.js'

const byText = (parts: readonly object[]): string[] => parts.map(part => JSON.stringify(Object.entries(part).sort())).sort()

export function erasedPartsContract (t: Test, open: OpenStore): void {
  void t.test('erased parts: all that concerns the device is named, and nothing else', async t => {
    const store = await open()
    const tenant = newTenantId()
    t.strictSame(await store.erasedParts(tenant, 'd'), [])
    const parts: ErasedPart[] = [
      { stamp: 10, metric: 'tempé, "x"' }, { stamp: 11, fromTs: 0, toTs: 5 }, { stamp: 12, metric: 'b', fromTs: 7 }, { stamp: 2 ** 53 - 1, metric: 'c', toTs: 2 ** 53 - 1 }
    ]
    for (const part of parts) await store.putErasure({ tenant, device: 'd', ...part })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText(parts))
    t.strictSame([await store.erasedParts(tenant, 'dd'), await store.erasedParts(`${tenant}x`, 'd')], [[], []])
    t.equal(await store.erasedBefore(tenant, 'd'), 0, 'a part erases no device')
    await store.putErasure({ tenant, device: null, stamp: 3 })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText([{ stamp: 3 }, ...parts]))
    t.strictSame(byText(await store.erasedParts(tenant, 'e')), byText([{ stamp: 3 }]))
    await store.putErasure({ tenant, device: 'd', stamp: 11 })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText([{ stamp: 11 }, ...parts.slice(2)]), 'a whole erasure contains older parts')
    t.equal(await store.erasedBefore(tenant, 'd'), 11)
  })

  void t.test('erased parts: one that another contains is not kept twice', async t => {
    const store = await open()
    const tenant = newTenantId()
    const put = async (part: ErasedPart): Promise<void> => { await store.putErasure({ tenant, device: 'd', ...part }) }
    await put({ stamp: 10, metric: 'a', fromTs: 5, toTs: 9 })
    await put({ stamp: 10, metric: 'a', fromTs: 5, toTs: 9 })
    await put({ stamp: 9, metric: 'a', fromTs: 6, toTs: 7 })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText([{ stamp: 10, metric: 'a', fromTs: 5, toTs: 9 }]))
    await put({ stamp: 11, metric: 'a', fromTs: 6, toTs: 7 })
    t.equal((await store.erasedParts(tenant, 'd')).length, 2, 'a later one of a smaller range is one of its own')
    await put({ stamp: 12, fromTs: 5 })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText([{ stamp: 12, fromTs: 5 }]))
  })

  void t.test('erased parts: listed with the whole ones, page by page', async t => {
    const store = await open()
    const tenant = newTenantId()
    const erasures: Erasure[] = [
      { tenant, device: null, stamp: 4 }, { tenant, device: 'a', stamp: 5, metric: 'x' }, { tenant, device: 'b', stamp: 6 },
      ...Array.from({ length: 5 }, (_, i): Erasure => ({ tenant, device: 'b', stamp: 10 + i, fromTs: i * 10, toTs: i * 10 + 5 })), { tenant, device: 'c', stamp: 5 }
    ]
    for (const erasure of erasures) await store.putErasure(erasure)
    for (const limit of [1, 2, 3, 8, 9, 50]) {
      const listed: Erasure[] = []
      let cursor: string | null = null
      do {
        const page = await store.listErasures(tenant, cursor, limit)
        t.ok(page.items.length <= limit)
        listed.push(...page.items)
        cursor = page.next
      } while (cursor !== null)
      t.strictSame(byText(listed), byText(erasures), `limit ${limit}`)
      t.strictSame(listed.map(({ device }) => device), erasures.map(({ device }) => device), 'in order of device')
    }
    await t.rejects(store.listErasures(tenant, '!', 5), { code: 'invalid_field', field: 'cursor' })
  })

  void t.test('erased parts: one more than the bound is refused, and a whole erasure makes room', async t => {
    const store = await open()
    const tenant = newTenantId()
    const put = async (i: number): Promise<void> => { await store.putErasure({ tenant, device: 'd', stamp: 100 + i, fromTs: i * 10, toTs: i * 10 + 5 }) }
    for (let i = 0; i < erasedPartsMax; i++) await put(i)
    await t.rejects(put(erasedPartsMax), { code: 'limit_reached' })
    await put(0)
    await store.putErasure({ tenant, device: 'd', stamp: 1000 })
    await store.putErasure({ tenant, device: 'd', stamp: 1001, metric: 'm' })
    t.strictSame(byText(await store.erasedParts(tenant, 'd')), byText([{ stamp: 1000 }, { stamp: 1001, metric: 'm' }]))
  })

  void t.test('erased parts: of many put at once none is lost', async t => {
    const store = await open()
    const tenant = newTenantId()
    await Promise.all(Array.from({ length: 20 }, async (_, i) => { await store.putErasure({ tenant, device: 'd', stamp: 10 + i, metric: `m${i}` }) }))
    t.equal((await store.erasedParts(tenant, 'd')).length, 20)
  })
}
