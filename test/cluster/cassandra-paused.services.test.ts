/** One Cassandra that stops answering and goes on: nothing is lost, nobody waits for ever, and the circuit opens and closes. */
import t from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../../src/core/clock.js'
import type { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra } from '../../src/store/cluster/cassandra/open-cassandra.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import { skipWithout, startPrivateCassandra } from '../support/services.js'

const requestTimeoutMs = 1000
const standstillMs = 3000
/** A statement is given up after a try (one node: there is no other to try), the time in the queue included. */
const longestMs = 12_000

t.test('a standstill of three seconds under load', { timeout: 240_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const cassandra = await startPrivateCassandra({ nodes: 1, jmx: false })
  t.teardown(async () => { await cassandra.close() })
  const settings: CassandraSettings = { contactPoints: cassandra.contactPoints, dataCenter: cassandra.dataCenter, keyspace: 'paused', replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false }
  await migrateCassandra(settings, { clock: systemClock, log: silentLog })
  const client = await openCassandra(settings, { clock: systemClock, log: silentLog, requestTimeoutMs, probeMs: 200 })
  t.teardown(async () => { await client.close() })
  await client.write('CREATE TABLE numbers (number int PRIMARY KEY)', [])

  const written: number[] = []
  const codes = new Map<string, number>()
  let next = 0
  let longest = 0
  let refusedAtOnce = 0
  let going = true
  const writers = Array.from({ length: 300 }, async () => {
    while (going) {
      const number = next++
      const started = performance.now()
      try {
        await client.write('INSERT INTO numbers (number) VALUES (?)', [number])
        written.push(number)
      } catch (error) {
        const { code } = error as TwinfoldError
        codes.set(code, (codes.get(code) ?? 0) + 1)
        if (performance.now() - started < 20) refusedAtOnce++
        // As the packer does: it comes again a little later.
        await pause(50)
      } finally {
        longest = Math.max(longest, performance.now() - started)
      }
    }
  })
  const states: string[] = []
  const watch = setInterval(() => {
    const { state } = client.status()
    if (states[states.length - 1] !== state) states.push(state)
  }, 20)
  t.teardown(() => { clearInterval(watch) })
  await pause(3000)
  const before = written.length
  t.ok(before > 500, `${before} before`)
  t.notOk(states.includes('down'), states.join(' '))
  cassandra.pause(0)
  await pause(standstillMs)
  t.match(client.status(), { state: 'down', reason: /Cassandra has been down since .*; last error: / })
  cassandra.resume(0)
  const resumedMs = performance.now()
  while (client.status().state === 'down' && performance.now() < resumedMs + 30_000) await pause(10)
  t.comment(`up ${Math.round(performance.now() - resumedMs)} ms after it went on`)
  t.ok(performance.now() - resumedMs < 10_000)
  const resumed = written.length
  await pause(3000)
  going = false
  await Promise.all(writers)
  t.comment(`${before} written before, ${written.length - resumed} after; refused: ${JSON.stringify([...codes])}, ${refusedAtOnce} of them at once; the longest call took ${Math.round(longest)} ms; states: ${states.join(' ')}`)
  t.ok(written.length - resumed > 500, 'it goes on as before')
  t.same([...codes.keys()], ['store_unavailable'])
  t.ok(refusedAtOnce > 300, 'while the circuit was open, at once')
  t.ok(longest < longestMs, `${Math.round(longest)} ms`)
  const stored = new Set<unknown>()
  for await (const row of client.stream('SELECT number FROM numbers', [], 5000)) stored.add(row.number)
  t.same(written.filter(number => !stored.has(number)), [], 'whatever was said to be written is there')
  t.match(client.status(), { running: 0, waiting: 0 })
  t.not(client.status().state, 'down')
})
