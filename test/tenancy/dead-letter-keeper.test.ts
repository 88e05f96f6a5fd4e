import t from 'tap'
import { deadLetterPayloadBytesMax } from '../../src/core/limits.js'
import { silentLog } from '../../src/core/log.js'
import type { DeadLetter, DeadLetterReason, DeadLetterStore } from '../../src/store/dead-letter-store.js'
import { refusedToDeadLetter } from '../../src/store/dead-letter-row.js'
import { DeadLetterKeeper, type DeadLetterKeeperOptions } from '../../src/tenancy/dead-letter-keeper.js'

/** The port over arrays, as far as the keeper uses it. */
class ArrayStore {
  readonly letters = new Map<string, DeadLetter[]>()
  trims: string[] = []
  failing = false

  async putDeadLetters (letters: readonly DeadLetter[]): Promise<void> {
    if (this.failing) throw new Error('the store is down')
    for (const letter of letters) this.letters.set(letter.tenant, [...this.of(letter.tenant), letter])
  }

  async trimDeadLetters (tenant: string, countMax: number, bytesMax: number): Promise<number> {
    if (this.failing) throw new Error('the store is down')
    this.trims.push(tenant)
    const letters = this.of(tenant)
    let kept = 0
    for (let bytes = 0; kept < letters.length && kept < countMax; kept++) {
      bytes += letters[letters.length - 1 - kept].payload.length
      if (bytes > bytesMax) break
    }
    this.letters.set(tenant, letters.slice(letters.length - kept))
    return letters.length - kept
  }

  async deadLetterTenants (): Promise<readonly string[]> { return [...this.letters.keys()] }
  of (tenant: string): DeadLetter[] { return this.letters.get(tenant) ?? [] }
}

let stamp = 1_700_000_000_000_000
function letter (tenant: string, bytes = 1, reason: DeadLetterReason = 'json_invalid'): DeadLetter {
  return refusedToDeadLetter({ tenant, stamp: stamp++, index: 0, journalId: '00000000000000d1', reason, detail: 'x', device: 'd', source: 'mqtt', format: 0, payload: Buffer.alloc(bytes) })
}

function keeperOf (store: ArrayStore, options: Partial<DeadLetterKeeperOptions> = {}): DeadLetterKeeper {
  return new DeadLetterKeeper(store as unknown as DeadLetterStore, { log: silentLog, trimEveryMs: 1e9, ...options })
}

void t.test('a tenant keeps its newest letters within the bound on their number, another tenant is left alone', async (t) => {
  const store = new ArrayStore()
  const keeper = keeperOf(store, { limits: { countMax: 80, bytesMax: 1e9 } })
  await keeper.start()
  await keeper.add([letter('other'), letter('other')])
  for (let i = 0; i < 500; i++) {
    await keeper.add([letter('acme')])
    await keeper.trim()
    t.ok(store.of('acme').length <= 80, `after ${i}`)
  }
  t.ok(store.of('acme').length >= 70 && store.of('acme')[store.of('acme').length - 1].stamp === stamp - 1)
  t.ok(store.trims.length <= 500 / 10 && !store.trims.includes('other'), `${store.trims.length} trims: amortised`)
  t.match(keeper.stats, { added: 502, trims: store.trims.length, trimmed: 500 - store.of('acme').length })
  await keeper.close()
})

void t.test('bytes are bounded, and letters of workers whose size is not known count as the largest', async (t) => {
  const store = new ArrayStore()
  const keeper = keeperOf(store, { limits: { countMax: 1e6, bytesMax: 8000 } })
  await keeper.start()
  for (let i = 0; i < 100; i++) {
    await keeper.add([letter('acme', 100)])
    await keeper.trim()
    t.ok(store.of('acme').reduce((sum, { payload }) => sum + payload.length, 0) <= 8000)
  }
  const before = store.trims.length
  await store.putDeadLetters([letter('acme', deadLetterPayloadBytesMax), letter('acme', 7999)])
  keeper.noteAdded('acme', 2)
  await keeper.trim()
  t.equal(store.trims.length, before + 1)
  t.equal(store.of('acme').length, 0, 'the newest does not fit seven eighths, so none is kept')
  await keeper.close()
})

void t.test('what an earlier process left is trimmed after a start', async (t) => {
  const store = new ArrayStore()
  for (const tenant of ['a', 'b']) for (let i = 0; i < 100; i++) await store.putDeadLetters([letter(tenant)])
  const keeper = keeperOf(store, { limits: { countMax: 16 } })
  await keeper.start()
  await keeper.trim()
  t.same([store.of('a').length, store.of('b').length], [14, 14])
  await keeper.trim()
  t.same(store.trims, ['a', 'b'], 'once')
  await keeper.close()
})

void t.test('a store that is down loses no trim: it is made up for later, and add rejects', async (t) => {
  const store = new ArrayStore()
  const keeper = keeperOf(store, { limits: { countMax: 8 } })
  await keeper.start()
  for (let i = 0; i < 20; i++) await keeper.add([letter('acme')])
  store.failing = true
  await keeper.trim()
  await t.rejects(keeper.add([letter('acme')]))
  t.match(keeper.stats, { added: 20, trimsFailed: 1, trims: 0 })
  store.failing = false
  await keeper.trim()
  t.equal(store.of('acme').length, 7)
  await keeper.close()
})

void t.test('refusals are counted by tenant and reason, and the number of names is bounded', async (t) => {
  const store = new ArrayStore()
  const keeper = keeperOf(store, { limits: { tenantsMax: 3 } })
  await keeper.start()
  for (let i = 0; i < 50; i++) {
    keeper.noteAdded(`t${i}`, 2, 'ts_future', 10)
    await keeper.add([letter(`t${i}`, 1, 'empty')])
  }
  keeper.noteAdded('t1', 1, undefined)
  const refusals = [...keeper.refusals()].map(({ tenant, reason, count }) => `${tenant} ${reason} ${count}`)
  t.same(refusals, ['t0 ts_future 2', 't0 empty 1', 't1 ts_future 2', 't1 empty 1', 't2 ts_future 2', 't2 empty 1', ' ts_future 94', ' empty 47'])
  t.same([...keeper.stats.refused], [['ts_future', 100], ['empty', 50]])
  await keeper.trim()
  t.ok(store.trims.length >= 47, 'tenants beyond the bound are trimmed early instead of remembered')
  await keeper.close()
})

void t.test('a dead letter has an id that sorts by time, and a copy of at most the allowed payload', async (t) => {
  const payload = Buffer.alloc(deadLetterPayloadBytesMax + 5, 1)
  const base = { tenant: 'acme', journalId: '89abcdef00000000', reason: 'empty', detail: 'x', device: '', source: 'http', format: 3, payload } as const
  const made = refusedToDeadLetter({ ...base, stamp: 999, index: 4 })
  payload.fill(2)
  t.match(made, { id: '0000000000000999-4-89abcdef', stamp: 999, payloadBytes: deadLetterPayloadBytesMax + 5, source: 'http', format: 3 })
  t.equal(made.payload.length, deadLetterPayloadBytesMax)
  t.ok(made.payload.every((byte) => byte === 1))
  t.ok(made.id < refusedToDeadLetter({ ...base, stamp: Number.MAX_SAFE_INTEGER, index: 0 }).id)
})
