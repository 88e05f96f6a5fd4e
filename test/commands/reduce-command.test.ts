/** Every way a command may change, against a model that only counts; and the small pure parts beside it. */
import t from 'tap'
import fc from 'fast-check'
import { parseAnswer } from '../../src/commands/answer.js'
import { deliveryOf, isFinished, lateAnswersMax, stateOf, type Command } from '../../src/commands/command.js'
import { decodeCommand, encodeCommand } from '../../src/commands/command-codec.js'
import { createdAtOf, finishedBefore, finishedItem, isCommandId, newCommandId } from '../../src/commands/command-id.js'
import { DeadlineHeap } from '../../src/commands/deadline-heap.js'
import { reduceCommand, type CommandChange } from '../../src/commands/reduce-command.js'

const begin = 1_000_000
const lifetime = 1000

function newCommand (retries: number, delivery: Command['delivery']): Command {
  return {
    id: newCommandId(begin, Math.random), name: 'n', payload: 1, envelope: false, priority: 5, createdAt: begin, expiresAt: begin + lifetime, delivery, retries,
    requestedBy: { kind: 'operator', id: 'k', via: 'http' }, reason: '', key: '', attempts: [], withheld: 0, end: null, answer: null, lateAnswers: [], lateAnswersBeyond: 0
  }
}

const connection = fc.integer({ min: 0, max: 3 }).map(String)
const step = fc.record({
  advance: fc.integer({ min: -20, max: 400 }),
  change: fc.oneof(
    connection.map(connection => ({ kind: 'sent' as const, connection, via: 'mqtt' as const })),
    connection.map(connection => ({ kind: 'delivered' as const, connection })),
    connection.map(connection => ({ kind: 'withheld' as const, connection })),
    fc.boolean().map(good => ({ kind: 'answered' as const, outcome: good ? 'succeeded' as const : 'failed' as const, status: good ? 'ok' : 'no', payload: 'x', payloadBytes: 3 })),
    fc.constantFrom({ kind: 'deadline' as const }, { kind: 'cancelled' as const }, { kind: 'notConnected' as const }, { kind: 'deviceDeleted' as const })
  )
})

/** What really happened, as a bystander counts it: nothing but facts. */
interface Facts { handed: Map<string, boolean>, onTime: string | null, answers: number, ended: boolean }

t.test('whatever happens in whatever order, what is shown is true', async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed}`)
  fc.assert(fc.property(fc.integer({ min: 0, max: 3 }), fc.constantFrom('queued' as const, 'ifConnected' as const), fc.array(step, { maxLength: 30 }), (retries, delivery, steps) => {
    let command = newCommand(retries, delivery)
    const facts: Facts = { handed: new Map(), onTime: null, answers: 0, ended: false }
    let at = begin
    for (const { advance, change } of steps) {
      at = Math.max(begin, at + advance)
      const before = command
      const reduced = reduceCommand(command, { ...change, at } as CommandChange)
      if (reduced.kind === 'refused') continue
      ;({ command } = reduced)
      note(facts, { ...change, at } as CommandChange, before)
      check(command, before, facts)
    }
  }), { seed, numRuns: 3000 })
})

function note (facts: Facts, change: CommandChange, before: Command): void {
  if (change.kind === 'sent') {
    if (change.at >= before.expiresAt) throw new Error('handed over after its deadline')
    facts.handed.set(change.connection, false)
  } else if (change.kind === 'delivered') facts.handed.set(change.connection, true)
  else if (change.kind === 'withheld') facts.handed.delete(change.connection)
  else if (change.kind === 'answered') {
    facts.answers++
    if (facts.answers === 1 && change.at <= before.expiresAt) facts.onTime = change.outcome
  }
}

function check (command: Command, before: Command, facts: Facts): void {
  const assert = (holds: boolean, what: string): void => { if (!holds) throw new Error(`${what}: ${JSON.stringify(command)}`) }
  const state = stateOf(command)
  if (facts.onTime !== null) assert(state === facts.onTime, 'an answer in time is what is shown')
  if (state === 'succeeded' || state === 'failed') assert(facts.onTime === state, 'the device said so')
  if (state === 'expired' || state === 'cancelled' || state === 'undeliverable') assert(facts.handed.size === 0, 'it was never handed over')
  if (state === 'unanswered') assert(facts.handed.size > 0 && facts.onTime === null, 'it was handed over, and no answer came in time')
  if (state === 'queued') assert(facts.handed.size === 0 && facts.answers === 0, 'nothing happened yet')
  if (state === 'delivered') assert([...facts.handed.values()].includes(true), 'it was acknowledged')
  if (deliveryOf(command) === 'confirmed') assert(facts.answers > 0 || [...facts.handed.values()].includes(true), 'somebody said that it arrived')
  assert(command.attempts.length <= command.retries + 1, 'attempts are bounded')
  assert(command.lateAnswers.length + command.lateAnswersBeyond + (command.answer === null ? 0 : 1) === facts.answers, 'every answer is counted')
  assert(command.lateAnswers.length <= lateAnswersMax, 'late answers are bounded')
  if (before.answer !== null) assert(command.answer === before.answer, 'an answer is never overwritten')
  if (isFinished(before)) assert(isFinished(command), 'an end stays an end')
  let last = command.createdAt
  for (const attempt of command.attempts) {
    assert(attempt.at >= last && (attempt.deliveredAt === null || attempt.deliveredAt >= attempt.at), 'times are monotone')
    last = attempt.at
  }
  assert(command.end === null || command.end.at >= last, 'the end is last')
  assert(command.answer === null || command.answer.at >= (command.attempts[0]?.at ?? Infinity), 'an answer follows the first attempt')
  assert(JSON.stringify(decodeCommand(encodeCommand(command))) === JSON.stringify(command), 'it is stored as it is')
}

t.test('ids sort by age, finished ones are read newest first, and none can be told from another\'s', async t => {
  const ids = Array.from({ length: 200 }, (_, i) => newCommandId(1_700_000_000_000_000 + i * 7919, Math.random))
  t.same([...ids].sort(), ids)
  t.same(ids.map(finishedItem).sort(), [...ids].reverse().map(finishedItem))
  t.ok(ids.every(isCommandId))
  t.equal(createdAtOf(ids[3]), 1_700_000_000_000_000 + 3 * 7919)
  const border = finishedBefore(createdAtOf(ids[100]))
  t.same(ids.filter(id => finishedItem(id) > border), ids.slice(0, 101))
})

t.test('a newer format is refused by name', async t => {
  t.throws(() => decodeCommand('{"format":2}'), { code: 'format_newer' })
})

t.test('the status of an answer is the device\'s own, and what means success is documented', async t => {
  const outcomeOf = (status: unknown): string => {
    const parsed = parseAnswer(Buffer.from(JSON.stringify({ status })))
    return parsed.kind === 'answer' ? parsed.outcome : parsed.code
  }
  for (const status of ['succeeded', 'SUCCESS', 'successful', 'ok', 'OK', 'done', '0', '204', 0, 200, 299, true]) t.equal(outcomeOf(status), 'succeeded', String(status))
  for (const status of ['failed', 'error', '', 'okay-ish', '500', 1, 300, -1, 199, false]) t.equal(outcomeOf(status), 'failed', String(status))
  for (const status of [null, {}, [], undefined, 'x'.repeat(257)]) t.equal(outcomeOf(status), 'invalid_field', JSON.stringify(status))
  let deep: unknown = 1
  for (let i = 0; i < 21; i++) deep = [deep]
  t.match(parseAnswer(Buffer.from(JSON.stringify({ status: 1, payload: deep }))), { kind: 'refused', code: 'invalid_field' })
  t.match(parseAnswer(Buffer.from([0x7b, 0xff])), { kind: 'refused', code: 'invalid_request' })
  t.match(parseAnswer(Buffer.from('['.repeat(60_000))), { kind: 'refused', code: 'invalid_request' })
})

t.test('the heap gives books in order of their earliest deadline, once, and is bounded', async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed}`)
  fc.assert(fc.property(fc.array(fc.record({ book: fc.integer({ min: 0, max: 20 }), due: fc.integer({ min: 0, max: 1000 }) }), { maxLength: 200 }), fc.integer({ min: 0, max: 1000 }), (added, now) => {
    const heap = new DeadlineHeap(1000)
    const model = new Map<string, number>()
    for (const { book, due } of added) {
      heap.add({ dueUs: due, tenant: 't', device: String(book) })
      model.set(String(book), Math.min(due, model.get(String(book)) ?? Infinity))
    }
    const taken = heap.take(now, Infinity)
    const expected = [...model].filter(([, due]) => due <= now)
    if (taken.length !== expected.length) throw new Error(`${taken.length} instead of ${expected.length}`)
    for (const [i, { device, dueUs }] of taken.entries()) {
      if (model.get(device) !== dueUs) throw new Error('not its earliest')
      if (i > 0 && taken[i - 1].dueUs > dueUs) throw new Error('out of order')
    }
  }), { seed })
  const heap = new DeadlineHeap(1)
  t.ok(heap.add({ dueUs: 1, tenant: 't', device: 'a' }))
  t.notOk(heap.add({ dueUs: 1, tenant: 't', device: 'b' }))
})
