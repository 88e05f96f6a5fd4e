import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { ReplicatedJournal } from '../../src/journal/replicated-journal.js'
import { Packer } from '../../src/pipeline/packer.js'
import type { PackResult, PackTask } from '../../workers/protocol.js'
import { RecordKind } from '../../src/journal/record.js'
import type { JournalFiles, JournalOptions } from '../../src/journal/journal.js'
import type { Journal } from '../../src/journal/journal-types.js'
import { FaultyFileSystem } from '../journal/faulty-file-system.js'
import { identity, open, Outcomes, temporaryDirectory } from '../journal/journal-support.js'

interface Teardown { teardown(undo: () => unknown): unknown }

const nothing: PackResult = {
  records: 0, messages: 0, readings: 0, points: 0, bytesIn: 0, bytesOut: 0, chunkRows: 0, slabRows: 0, refused: [], loads: [], cpuMs: 0, damaged: []
} as unknown as PackResult

/** A journal on disk, its packer on a store that answers when it is told to, and the wrapper before both. */
async function rig (t: Teardown, more: Partial<JournalOptions> = {}): Promise<{ journal: JournalFiles, replicated: ReplicatedJournal, packer: Packer, tasks: { task: PackTask, done: (error?: Error) => void }[], answer: { automatic: boolean } }> {
  const journal = await open(temporaryDirectory(t), { clock: systemClock, retryMs: 20, ...more })
  const replicated = new ReplicatedJournal({ journal })
  const tasks: { task: PackTask, done: (error?: Error) => void }[] = []
  const answer = { automatic: false }
  const pool = {
    threads: 3,
    pack: async (task: PackTask) => {
      if (answer.automatic) return nothing
      return await new Promise<PackResult>((resolve, reject) => { tasks.push({ task, done: error => { if (error === undefined) resolve(nothing); else reject(error) } }) })
    }
  }
  const packer: Packer = new Packer({
    journal, cursors: { putCursor: async () => {}, getCursor: async () => null }, pool, clock: systemClock, log: silentLog, sliceIntervalMs: 5, onPacked: () => { replicated.packedUpTo(packer.cursor) }
  }, { cursor: 0, marks: [] })
  packer.open()
  t.teardown(async () => {
    answer.automatic = true
    for (const { done } of tasks) done()
    await packer.close()
    await journal.close()
  })
  return { journal, replicated, packer, tasks, answer }
}

function append (journal: Journal, waiter: Outcomes, token: number, text = `{"v":${token}}`): number {
  return journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.from(text), messages: 1 }, waiter, token)
}

const pause = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

async function until (holds: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !holds(); i++) await pause(5)
  if (!holds()) throw new Error('it did not come to that in 5 s')
}

void t.test('nothing is acknowledged before its slice is written, and everything is then, in order', async t => {
  const { journal, replicated, tasks } = await rig(t)
  const outcomes = new Outcomes()
  for (let i = 0; i < 10; i++) append(replicated, outcomes, i)
  await until(() => tasks.length === 1)
  await pause(50)
  t.ok(journal.durableEnd > 0)
  t.same(outcomes.committedTokens, [], 'durable is not enough')
  for (let i = 10; i < 20; i++) append(replicated, outcomes, i)
  await until(() => tasks.length === 2)
  tasks[1].done()
  await pause(30)
  t.same(outcomes.committedTokens, [], 'a later slice that is done first waits for the earlier one')
  tasks[0].done()
  await until(() => outcomes.committedTokens.length === 20)
  t.same(outcomes.committedTokens, Array.from({ length: 20 }, (_, i) => i))
  t.equal(replicated.waiting, 0)
})

void t.test('a record in the same commit as the mark before it waits for its own slice', async t => {
  const { journal, replicated, tasks } = await rig(t, { sliceBytesMax: 200 })
  const outcomes = new Outcomes()
  // The bound of 200 bytes closes slices in the middle of one commit.
  for (let i = 0; i < 12; i++) append(replicated, outcomes, i, JSON.stringify({ v: 'x'.repeat(40), i }))
  await until(() => tasks.length === 3)
  const ends = tasks.map(({ task }) => task.mark.to)
  tasks[0].done()
  await until(() => outcomes.committedTokens.length > 0)
  await pause(20)
  t.ok(outcomes.committedTokens.length < 6, `${outcomes.committedTokens.length} acknowledged`)
  t.ok(ends[0] < journal.durableEnd)
  for (let i = 1; outcomes.committedTokens.length < 12; i++) {
    await until(() => tasks.length > i || outcomes.committedTokens.length === 12)
    tasks[i]?.done()
    await pause(5)
  }
  t.same(outcomes.committedTokens, Array.from({ length: 12 }, (_, i) => i))
})

void t.test('a slice that cannot be written keeps its records waiting until it can', async t => {
  const { replicated, tasks, packer } = await rig(t)
  const outcomes = new Outcomes()
  append(replicated, outcomes, 1)
  for (let attempt = 0; attempt < 3; attempt++) {
    await until(() => tasks.length > attempt)
    tasks[attempt].done(new Error('no replica answers'))
  }
  await until(() => tasks.length === 4)
  t.same(outcomes.committedTokens, [])
  t.same(outcomes.failedTokens, [])
  tasks[3].done()
  await until(() => outcomes.committedTokens.length === 1)
  t.equal(packer.stats.retries, 3)
})

void t.test('what the journal could not write is refused, behind what waits before it', async t => {
  const system = new FaultyFileSystem()
  const { replicated, tasks } = await rig(t, { fileSystem: system })
  const outcomes = new Outcomes()
  append(replicated, outcomes, 1)
  await until(() => tasks.length === 1)
  let failures = 0
  system.fault = point => point === 'sync' && failures++ === 0 ? 'EIO' : null
  append(replicated, outcomes, 2)
  await pause(50)
  t.same(outcomes.failedTokens, [], 'the edges expect answers in the order of the records')
  tasks[0].done()
  await until(() => outcomes.committedTokens.length === 1 && outcomes.failedTokens.length === 1)
  t.same([outcomes.committedTokens, outcomes.failedTokens], [[1], [2]])
})

void t.test('after stop nobody is told anything', async t => {
  const { replicated, tasks } = await rig(t)
  const outcomes = new Outcomes()
  append(replicated, outcomes, 1)
  await until(() => tasks.length === 1)
  append(replicated, outcomes, 2)
  replicated.stop()
  tasks[0].done()
  await pause(50)
  t.same([outcomes.committedTokens, outcomes.failedTokens], [[], []])
  t.equal(replicated.waiting, 0)
})

void t.test('beyond the bound a record is refused, and nothing of it is kept', async t => {
  const { journal } = await rig(t)
  const small = new ReplicatedJournal({ journal, waitingMax: 2 })
  const outcomes = new Outcomes()
  append(small, outcomes, 1)
  append(small, outcomes, 2)
  const end = journal.appendedEnd
  t.throws(() => append(small, outcomes, 3), { code: 'journal_unavailable' })
  t.equal(journal.appendedEnd, end)
})

void t.test('100,000 records with failures and slices out of order: every one is answered once, in order', async t => {
  const { replicated, tasks, answer } = await rig(t, { sliceBytesMax: 20_000 })
  const outcomes = new Outcomes()
  const order: number[] = []
  const waiter = { committed: (token: number) => { order.push(token); outcomes.committed(token) }, failed: () => { t.fail('nothing failed') } }
  const packing = setInterval(() => { for (const { done } of tasks.splice(0).reverse()) done() }, 5)
  for (let i = 0; i < 100_000; i++) {
    replicated.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.from('{"v":1}'), messages: 1 }, waiter, i)
    if (i % 500 === 0) await new Promise(resolve => { setImmediate(resolve) })
  }
  answer.automatic = true
  await outcomes.settled(100_000)
  clearInterval(packing)
  t.ok(order.every((token, i) => token === i))
})
