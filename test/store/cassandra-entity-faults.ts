/** What entities on Cassandra keep where answers are lost, others write at the same time, and processes die in the middle. */
import type { Test } from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { entityPart, partitionOf } from '../../src/store/cluster/cassandra/cassandra-entity-keys.js'
import type { EntityKey } from '../../src/store/entity-store.js'
import { clientWith, entitiesOn } from './cassandra-entities-support.js'
import { diesAt, FailingCassandra } from './cassandra-fixture.js'
import { commitOf, fill, keyOf } from './entity-store.contract.js'
import { outEventOf } from './event-log.contract.js'
import { newTenantId } from './store-fixtures.js'

/** The name of the thousand, five copies, the deletion; and one more, that never comes. */
const stepsOfMove = 8
const lost = new TwinfoldError('store_unavailable', 'planned: the answer was lost')
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

export function cassandraEntityFaults (t: Test, client: CassandraClient): void {
  lostAnswers(t, client)
  deaths(t, client)
}

function lostAnswers (t: Test, client: CassandraClient): void {
  void t.test('a commit whose answer was lost is known to have been made, and told of once', async t => {
    const failing = new FailingCassandra(client)
    const { entities, told } = entitiesOn(t, failing)
    const key = keyOf(newTenantId(), 'd')
    await fill(entities, key, 1, 1)
    failing.failAs(write => write < 2 ? 'after' : null)
    t.strictSame(await entities.commitEntities([commitOf(key, 1, { outbox: [outEventOf(key.tenant, 'd', 2)] })], true), [true])
    t.match(await entities.getEntity(key), { version: 2 })
    t.equal(told.length, 1)
    t.equal((await entities.readEntityEvents(key, 0, 10, 10)).length, 2)
    failing.failAs(write => write === 0 ? 'before' : null)
    t.strictSame(await entities.commitEntities([commitOf(key, 2)], true), [true], 'nor is one lost that never arrived')
    failing.failAs(write => write === 0 ? 'before' : null)
    t.strictSame(await entities.commitEntities([commitOf(key, 1)], true), [false], 'and another\'s commit is not taken for it')
    t.equal(told.length, 1)
  })

  void t.test('a commit that can never be sent is not known to be made, and was not', async t => {
    const failing = new FailingCassandra(client)
    const { entities, told } = entitiesOn(t, failing)
    const [key, other] = [keyOf(newTenantId(), 'd'), keyOf(newTenantId(), 'd')]
    failing.failAs((_, cql) => cql.includes('IF version') ? 'before' : null)
    await t.rejects(entities.commitEntities([commitOf(key, 0, { outbox: [outEventOf(key.tenant, 'd', 1)] }), commitOf(other, 0)], true), { code: 'store_unavailable' })
    t.match(await entities.getEntity(key), { version: 0 })
    for await (const found of entities.scanEntities('twin', key.tenant)) t.fail(`an entity that was never made: ${found.key.device}`)
    t.strictSame(told, [])
  })

  void t.test('an unknown outcome is told apart where others committed on top, or in its place', async t => {
    const { entities: others } = entitiesOn(t, client)
    for (const [kind, made, items] of [['twin', true, []], ['twin', false, []], ['commands', true, [{ id: 'i', body: 'x' }]]] as const) {
      const key = keyOf(newTenantId(), 'd', { kind })
      await fill(others, key, 1, 1)
      let first = true
      const losing = clientWith(client, {
        writePartitionIf: async statements => {
          if (!first) return await client.writePartitionIf(statements)
          first = false
          if (made) await client.writePartitionIf(statements)
          const [done] = await others.commitEntities([commitOf(key, made ? 2 : 1, { writer: '00000000000000bb', version: 3 })], true)
          t.equal(done, true)
          throw lost
        }
      })
      const { entities } = entitiesOn(t, losing)
      t.strictSame(await entities.commitEntities([commitOf(key, 1, { ...(kind === 'twin' ? {} : { events: [] }), items })], true), [made], `${kind} ${made}`)
      t.match(await entities.getEntity(key), { version: 3, writer: '00000000000000bb' })
    }
  })

  void t.test('two nodes with many writers on one entity spend each version once, though every fifth answer is lost', async t => {
    const key = keyOf(newTenantId(), 'd')
    const won: number[][] = await Promise.all([1, 2].map(async node => {
      let calls = node
      const losing = clientWith(client, {
        writePartitionIf: async statements => {
          const outcome = await client.writePartitionIf(statements)
          if (calls++ % 5 === 0) throw lost
          return outcome
        }
      })
      const { entities } = entitiesOn(t, losing)
      const versions: number[] = []
      await Promise.all([1, 2, 3].map(async () => {
        for (let done = 0; done < 6;) {
          const { version } = await entities.getEntity(key)
          const [committed] = await entities.commitEntities([commitOf(key, version, { writer: String(node).repeat(16) })], true)
          if (!committed) continue
          versions.push(version + 1)
          done++
        }
      }))
      return versions
    }))
    t.strictSame(won.flat().sort((a, b) => a - b), numbers(1, 36))
    const { entities } = entitiesOn(t, client)
    t.strictSame((await entities.readEntityEvents(key, 0, 100, 100)).map(({ version }) => version), numbers(1, 36))
  })
}

function deaths (t: Test, client: CassandraClient): void {
  void t.test('whoever dies while old events are moved away, none is lost, and the next one finishes it', async t => {
    const tenant = newTenantId()
    const { entities: later } = entitiesOn(t, client)
    for (let step = 1; step <= stepsOfMove; step++) {
      const key = keyOf(tenant, `d${step}`)
      const failing = new FailingCassandra(client)
      const { entities: dying } = entitiesOn(t, failing)
      await fill(dying, key, 999, 333)
      // Write 0 is the commit itself; what was not sent any more is the same as what was the last to arrive.
      failing.failAs(diesAt(step, 'before'))
      t.strictSame(await dying.commitEntities([commitOf(key, 999, { version: 1001 })], false), [true])
      await dying.settled()
      t.equal(dying.stats.moved, step < stepsOfMove ? 0 : 1, `${stepsOfMove - 1} writes make a move`)
      t.strictSame((await later.readEntityEvents(key, 0, 1e9, 1e6)).map(({ version }) => version), numbers(1, 1001), `step ${step}`)
      t.strictSame(await later.commitEntities([commitOf(key, 1001, { version: 2000 })], false), [true])
      await later.settled()
      t.strictSame((await later.readEntityEvents(key, 0, 1e9, 1e6)).map(({ version }) => version), numbers(1, 2000), `step ${step}, finished`)
      t.equal(await rowsOf(client, 'entity', key, entityPart.event), 1, 'what is left beside the state is the newest thousand')
    }
  })

  void t.test('whoever dies while history is cut, the next cut takes all of it, from every table', async t => {
    const tenant = newTenantId()
    const { entities: later } = entitiesOn(t, client)
    for (let step = 0; step < 5; step++) {
      const key = keyOf(tenant, `d${step}`)
      await fill(later, key, 2100, 700)
      await later.putEntitySnapshot(key, { version: 900, stamp: 1, state: '{}' })
      await later.putEntitySnapshot(key, { version: 1900, stamp: 2, state: '{}' })
      await later.settled()
      const failing = new FailingCassandra(client)
      const { entities: dying } = entitiesOn(t, failing)
      failing.failAs(diesAt(step, 'before'))
      await dying.dropEntityHistory(key, 1950).catch(() => {})
      const left = (await later.readEntityEvents(key, 0, 1e9, 1e6)).map(({ version }) => version)
      t.strictSame(left.slice(-151), numbers(1950, 2100), 'what was to stay stays')
      await later.dropEntityHistory(key, 1950)
      t.strictSame((await later.readEntityEvents(key, 0, 1e9, 1e6)).map(({ version }) => version), numbers(1950, 2100))
      t.equal(await later.findEntitySnapshot(key, { version: 1e9 }), null)
      t.equal(await rowsOf(client, 'entity_history', key, entityPart.event, 0), 0)
      t.equal(await rowsOf(client, 'entity_history', key, entityPart.event, 1), 50)
      t.equal(await rowsOf(client, 'entity_history', key, entityPart.snapshot, 1), 0)
      await later.dropEntityHistory(key, 2101)
      t.equal(await rowsOf(client, 'entity_history', key, entityPart.event, 1), 0)
      t.equal(await rowsOf(client, 'entity', key, entityPart.event), 0)
      t.equal(await rowsOf(client, 'entity', key, entityPart.snapshot), 0)
    }
  })
}

async function rowsOf (client: CassandraClient, table: 'entity' | 'entity_history', key: EntityKey, part: number, thousand?: number): Promise<number> {
  const where = `tenant = ? AND device = ? AND kind = ? AND name = ?${thousand === undefined ? '' : ' AND thousand = ?'} AND part = ?`
  const rows = await client.read(`SELECT part FROM ${table} WHERE ${where}`, [...partitionOf(key), ...(thousand === undefined ? [] : [thousand]), part])
  return rows.length
}
