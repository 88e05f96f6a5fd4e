/** Seals, tier rows, claims and notes on Cassandra: between their writes, with answers that are lost, and by what they leave. */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { shardOf } from '../../src/core/ids.js'
import { usPerDay, usPerMinute } from '../../src/core/reading.js'
import { systemClock, type Clock } from '../../src/core/clock.js'
import type { CassandraClient, Statement } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraClaims } from '../../src/store/cluster/cassandra/cassandra-claims.js'
import { CassandraTierStore } from '../../src/store/cluster/cassandra/cassandra-tiers.js'
import { tierKinds } from '../../src/store/tier-store.js'
import { skipWithout } from '../support/services.js'
import { openRawKeyspace, WatchedClient } from './cassandra-raw-support.js'
import { FailingCassandra } from './cassandra-fixture.js'
import { chunkOf, day0, gather, newTenantId, randomFrom, newSeed, refOf, retentionDays, sliceOf, writeOf } from './store-fixtures.js'
import { sealStepsContract } from './tier-store.contract.js'

t.setTimeout(240_000)

/** One write after the other, each after the hook. */
class SteppedClient extends WatchedClient {
  readonly #beforeWrite: () => Promise<void>
  #tail: Promise<void> = Promise.resolve()

  constructor (client: CassandraClient, beforeWrite: () => Promise<void>) {
    super(client)
    this.#beforeWrite = beforeWrite
  }

  async #turn (action: () => Promise<void>): Promise<void> {
    const turn = this.#tail.then(async () => {
      await this.#beforeWrite()
      await action()
    })
    this.#tail = turn.catch(() => {})
    await turn
  }

  override async write (cql: string, parameters: readonly unknown[]): Promise<void> {
    await this.#turn(async () => { await super.write(cql, parameters) })
  }

  override async writePartition (statements: readonly Statement[]): Promise<void> {
    await this.#turn(async () => { await super.writePartition(statements) })
  }
}

class MovedClock implements Clock {
  aheadUs = 0
  nowUs = (): number => systemClock.nowUs() + this.aheadUs
  monotonicMs = (): number => systemClock.monotonicMs()
}

if (!skipWithout(t, 'cassandra')) {
  const keyspace = await openRawKeyspace()
  t.teardown(async () => { await keyspace.close() })
  const { client } = keyspace
  const plain = { raw: keyspace.store(), tiers: new CassandraTierStore(client) }
  sealStepsContract(t, async beforeWrite => {
    const stepped = new SteppedClient(client, beforeWrite)
    return { raw: keyspace.store({ client: stepped }), tiers: new CassandraTierStore(stepped) }
  }, async () => plain)

  void t.test('tier rows live as long as their own class', async t => {
    const tenant = newTenantId()
    const bucket = { start: day0, widthMinutes: 1440 } as const
    await plain.raw.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays: 30 }, {
      generation: { epoch: 1, sequence: 1 }, covered: [], chunks: [], tiers: tierKinds.map((kind, i) => ({ kind, start: day0, bucket, asOf: 0, bytes: Buffer.from('x'), retentionDays: [7, 400, 3650, 400, 100_000][i] }))
    })
    for (const [table, kind, days] of [['1m', '1m', 7], ['1h', '1h', 400], ['1d', '1d', 3650], ['1h', 'q1h', 400], ['1d', 'q1d', null]] as const) {
      const rows = await client.read(`SELECT kind, TTL(bytes) AS ttl FROM tier_rows_${table} WHERE tenant = ? AND device = ? AND span = ?`, [tenant, 'd', Math.floor(day0 / ({ '1m': 30, '1h': 90, '1d': 360 }[table] * usPerDay)) * { '1m': 30, '1h': 90, '1d': 360 }[table] * usPerDay])
      const ttl = rows.find(row => row.kind === kind)?.ttl as number | null
      if (days === null) t.equal(ttl, null, 'for ever')
      else t.ok(ttl !== null && ttl <= (days + 2) * 86_400 && ttl > (days + 2) * 86_400 - 120, `${kind}: ${ttl}`)
    }
  })

  void t.test('nothing of replaced generations is left in any table', async t => {
    const tenant = newTenantId()
    const bucket = { start: day0, widthMinutes: 60 } as const
    for (let sequence = 1; sequence <= 3; sequence++) {
      await plain.raw.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays }, {
        generation: { epoch: 1, sequence }, covered: [], chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from('x') }], tiers: tierKinds.slice(0, 6 - sequence).map(kind => ({ kind, start: day0, bucket, asOf: 0, bytes: Buffer.from('x'), retentionDays: 365 }))
      })
    }
    for (const table of ['tier_rows_1m', 'tier_rows_1h', 'tier_rows_1d', 'sealed_chunks', 'sealed_headers']) {
      const rows = await client.read(`SELECT sequence FROM ${table} WHERE tenant = ? ALLOW FILTERING`, [tenant])
      t.ok(rows.length > 0 && rows.every(row => row.sequence === 3), `${table}: ${JSON.stringify(rows)}`)
    }
  })

  void t.test('a first seal of a day costs few statements', async t => {
    const tenant = newTenantId()
    const watched = new WatchedClient(client)
    const store = keyspace.store({ client: watched })
    await plain.raw.writeHead(writeOf({ chunks: Array.from({ length: 50 }, (_, mark) => chunkOf(tenant, 'd', { slice: sliceOf(mark) })) }))
    const bucket = { start: day0, widthMinutes: 1440 } as const
    const minutes = Array.from({ length: 24 }, (_, hour) => ({ kind: '1m', start: day0 + hour * 60 * usPerMinute, bucket, asOf: 0, bytes: Buffer.alloc(1500, hour), retentionDays: 365 }) as const)
    await store.writeSealed(refOf(tenant, 'd'), { retentionDays }, {
      generation: { epoch: 1, sequence: 1 },
      covered: Array.from({ length: 50 }, (_, mark) => sliceOf(mark)),
      chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from('x') }],
      tiers: [...minutes, ...(['1h', 'q1h', '1d', 'q1d'] as const).map(kind => ({ kind, start: day0, bucket, asOf: 0, bytes: Buffer.alloc(3000), retentionDays: 365 }))],
      outbox: { journalId: '00000000000000f1', stream: 'seal', sequence: day0 }
    })
    t.ok(watched.writes <= 8, `${watched.writes} writes`)
    t.ok(watched.reads <= 3, `${watched.reads} reads`)
    const [entry] = await plain.raw.readOutbox('00000000000000f1', 'seal', 0, Infinity, 10)
    t.strictSame(entry, { journalId: '00000000000000f1', stream: 'seal', sequence: day0, chunks: [], slabs: [], sealed: { tenant, device: 'd', bucket } })
  })

  void t.test('notes of a device go minutes after its buckets were sealed, and no chunk is ever without one', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const clock = new MovedClock()
    const [writer, other, sealer] = [keyspace.store({ clock }), keyspace.store({ clock }), keyspace.store({ clock })]
    const tenant = newTenantId()
    const range = { tenant, device: 'd', retentionDays: [retentionDays] }
    // One bucket is current, one is past.
    const current = { start: Math.floor(clock.nowUs() / usPerDay) * usPerDay, widthMinutes: 1440 } as const
    const past = { start: day0, widthMinutes: 1440 } as const
    let mark = 0
    const head = new Map<number, number>()
    const notes = async (): Promise<number> => (await client.read('SELECT period FROM dirty_by_device WHERE tenant = ? AND shard = ? AND device = ?', [tenant, shardOf('d'), 'd'])).length
    for (let round = 0; round < 60; round++) {
      const bucket = random() < 0.5 ? current : past
      head.set(++mark, bucket.start)
      await (random() < 0.5 ? writer : other).writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { bucket, slice: sliceOf(mark), minTs: bucket.start, maxTs: bucket.start })] }))
      const named = (await sealer.listHeadSpans(range, 0, 9e15)).map(({ slice }) => slice.mark).sort((a, b) => a - b)
      t.strictSame(named, [...head.keys()], `seed ${seed}, round ${round}`)
      if (random() < 0.5) {
        const covered = [...head].filter(([, start]) => start === bucket.start).map(([each]) => each)
        await sealer.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays }, { generation: { epoch: 1, sequence: round + 1 }, covered: covered.map(each => sliceOf(each)), chunks: [] })
        for (const each of covered) head.delete(each)
      }
      clock.aheadUs += Math.floor(random() * 20) * usPerMinute
      await gather(sealer.scanDirty(tenant, shardOf('d')))
    }
    for (const bucket of [current, past]) {
      await sealer.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays }, { generation: { epoch: 2, sequence: 1 }, covered: [...head.keys()].map(each => sliceOf(each)), chunks: [] })
    }
    clock.aheadUs += 2 * usPerDay
    t.strictSame(await gather(sealer.scanDirty(tenant, shardOf('d'))), [])
    t.equal(await notes(), 0)
    await writer.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { bucket: past, slice: sliceOf(1000) })] }))
    t.equal((await sealer.listHeadSpans(range, 0, 9e15)).length, 1)
  })

  void t.test('claims: whatever answers are lost, two owners never have one epoch', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const clock = new MovedClock()
    const given = new Map<number, string>()
    const owners = ['a', 'b', 'c'].map(owner => {
      const failing = new FailingCassandra(client)
      failing.failAs(() => random() < 0.2 ? 'before' : random() < 0.3 ? 'after' : null)
      return { owner, claims: new CassandraClaims(failing, { clock }) }
    })
    for (let round = 0; round < 40; round++) {
      await Promise.all(owners.map(async ({ owner, claims }) => {
        if (random() < 0.3) return
        try {
          const claim = await claims.takeClaim('shard/7', owner, 1000)
          if (claim !== null) {
            if (!given.has(claim.epoch)) given.set(claim.epoch, owner)
            t.equal(given.get(claim.epoch), owner, `seed ${seed}: epoch ${claim.epoch}`)
          }
          if (random() < 0.1) await claims.releaseClaim('shard/7', owner)
        } catch (error) {
          if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
        }
      }))
      if (random() < 0.5) clock.aheadUs += 2e6
    }
    t.ok(given.size > 3, `${given.size} epochs`)
  })
}
