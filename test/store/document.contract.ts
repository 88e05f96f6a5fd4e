/** What every implementation of the port of documents keeps. */
import type { Test } from 'tap'
import { documentBytesMax, type DocumentStore, type StoredDocument } from '../../src/store/document-store.js'
import { newTenantId } from './store-fixtures.js'

export function documentContract (t: Test, open: () => Promise<DocumentStore>): void {
  void t.test('documents: a write counts where the revision is the expected one, and nowhere else', async t => {
    const store = await open()
    const tenant = newTenantId()
    t.equal(await store.getDocument('model', tenant, 'a'), null)
    t.equal(await store.putDocument('model', tenant, 'a', '{}', 1), false, 'there is none')
    t.equal(await store.putDocument('model', tenant, 'a', '{"n":1}', 0), true)
    t.equal(await store.putDocument('model', tenant, 'a', '{"n":2}', 0), false, 'there is one')
    t.equal(await store.putDocument('model', tenant, 'a', '{"n":"ü\\n"}\n', 1), true)
    t.equal(await store.putDocument('model', tenant, 'a', '{"n":3}', 1), false, 'it was changed')
    t.strictSame(await store.getDocument('model', tenant, 'a'), { id: 'a', revision: 2, body: '{"n":"ü\\n"}\n' })
    t.equal(await store.getDocument('alarm', tenant, 'a'), null, 'another collection')
    t.equal(await store.getDocument('model', `${tenant}x`, 'a'), null, 'another tenant')
    t.equal(await store.deleteDocument('model', tenant, 'a', 1), false)
    t.equal(await store.deleteDocument('model', tenant, 'a', 2), true)
    t.equal(await store.deleteDocument('model', tenant, 'a', 2), false)
    t.equal(await store.deleteDocument('model', tenant, 'a', 0), false)
    t.equal(await store.putDocument('model', tenant, 'a', '{}', 0), true)
    t.strictSame(await store.getDocument('model', tenant, 'a'), { id: 'a', revision: 1, body: '{}' }, 'revisions begin again')
  })

  void t.test('documents: of many writers on one revision one succeeds, and no revision is passed over', async t => {
    const store = await open()
    const tenant = newTenantId()
    for (let revision = 0; revision < 5; revision++) {
      const outcomes = await Promise.all(Array.from({ length: 8 }, async (_, writer) => await store.putDocument('alarm', tenant, 'one', `{"w":${writer},"r":${revision}}`, revision)))
      t.equal(outcomes.filter(done => done).length, 1)
      t.strictSame(await store.getDocument('alarm', tenant, 'one'), { id: 'one', revision: revision + 1, body: `{"w":${outcomes.indexOf(true)},"r":${revision}}` })
    }
    const deletions = await Promise.all([1, 2, 3].map(async () => await store.deleteDocument('alarm', tenant, 'one', 5)))
    t.equal(deletions.filter(done => done).length, 1)
  })

  void t.test('documents: listed in order of id, by prefix, page by page, each collection and tenant its own', async t => {
    const store = await open()
    const tenant = newTenantId()
    const ids = ['!', '0', 'A', 'a', 'a b', 'a/1', 'a/10', 'a/2', 'a/2/x', 'a0', 'b', '~', '~~', ...Array.from({ length: 40 }, (_, i) => `n-${i}`)].sort((a, b) => a < b ? -1 : 1)
    await Promise.all(ids.map(async id => { await store.putDocument('alarm-rule', tenant, id, `{"id":"${id}"}`, 0) }))
    await store.putDocument('alarm-rule', `${tenant}-`, 'a/3', '{}', 0)
    await store.putDocument('alarm', tenant, 'a/3', '{}', 0)
    for (const prefix of ['', 'a', 'a/', 'a/1', 'n-1', '~', 'none']) {
      const expected = ids.filter(id => id.startsWith(prefix)).map((id): StoredDocument => ({ id, revision: 1, body: `{"id":"${id}"}` }))
      for (const limit of [1, 3, 200]) {
        const listed: StoredDocument[] = []
        let cursor: string | null = null
        do {
          const page = await store.listDocuments('alarm-rule', tenant, prefix, cursor, limit)
          t.ok(page.items.length <= limit)
          listed.push(...page.items)
          cursor = page.next
        } while (cursor !== null)
        t.strictSame(listed, expected, `'${prefix}' by ${limit}`)
      }
    }
    await t.rejects(store.listDocuments('alarm-rule', tenant, '', '**', 1), { code: 'invalid_field' })
  })

  void t.test('documents: the tenants of a collection are known', async t => {
    const store = await open()
    const tenants = [newTenantId(), newTenantId(), newTenantId()]
    for (const tenant of tenants) for (let i = 0; i < 20; i++) await store.putDocument('webhook', tenant, `w${i}`, '{}', 0)
    const other = newTenantId()
    await store.putDocument('webhook-state', other, 'w', '{}', 0)
    const found = await store.documentTenants('webhook')
    t.strictSame(tenants.filter(tenant => !found.includes(tenant)), [])
    t.equal(new Set(found).size, found.length)
    t.notOk(found.includes(other))
  })

  void t.test('documents: of the largest size, and refused beyond', async t => {
    const store = await open()
    const tenant = newTenantId()
    const id = `${'i'.repeat(399)} `
    const body = 'ü'.repeat(documentBytesMax / 2)
    t.equal(await store.putDocument('webhook-letter', tenant, id, body, 0), true)
    t.equal((await store.getDocument('webhook-letter', tenant, id))?.body === body, true)
    for (const [wrong, text] of [['a', `${body}x`], [`${id}x`, '{}'], ['', '{}'], ['ü', '{}'], ['\0', '{}']]) {
      await t.rejects(store.putDocument('webhook-letter', tenant, wrong, text, 0), { code: 'invalid_request' })
    }
    t.equal((await store.listDocuments('webhook-letter', tenant, '', null, 9)).items.length, 1)
  })
}
