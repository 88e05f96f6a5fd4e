import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import type { Journal } from '../../src/journal/journal-types.js'
import type { SliceMark } from '../../src/journal/record.js'
import { HotFollower } from '../../src/pipeline/hot-follower.js'
import { Packer } from '../../src/pipeline/packer.js'
import { Pressure } from '../../src/gate/pressure.js'
import { PressureControl } from '../../src/pipeline/pressure-control.js'
import type { HotTask, PackResult, PackTask } from '../../workers/protocol.js'

const emptyResult: PackResult = { records: 0, messages: 1, readings: 1, points: 1, bytesIn: 10, bytesOut: 5, chunkRows: 0, slabRows: 1, refused: [], loads: [], cpuMs: 1, damaged: [] }

/** A journal that closes slices of 100 bytes when told to, without files. */
class MarkingJournal {
  readonly journalId = '00000000000000aa'
  unmarkedBytes = 0
  durableEnd = 0
  readonly diskBytes = 0
  readonly state = 'ok'
  #listener: (mark: SliceMark) => void = () => {}
  #from = 0

  onMark (listener: (mark: SliceMark) => void): void { this.#listener = listener }
  arrive (bytes: number): void { this.unmarkedBytes += bytes; this.durableEnd += bytes }

  async mark (): Promise<SliceMark | null> {
    if (this.unmarkedBytes === 0) return null
    const mark = { from: this.#from, to: this.durableEnd, records: 1, stamp: this.durableEnd }
    this.#from = this.durableEnd
    this.unmarkedBytes = 0
    this.#listener(mark)
    return mark
  }

  append (): number { throw new Error('not used here') }
  segmentsFor (): [] { return [] }
  async releaseBefore (): Promise<void> {}
}

interface Harness {
  readonly journal: MarkingJournal
  readonly packer: Packer
  readonly tasks: { readonly task: PackTask, readonly done: (outcome: PackResult | Error) => void }[]
  readonly cursors: number[]
}

function harness (threads: number, start: { cursor: number, marks: readonly SliceMark[] } = { cursor: 0, marks: [] }): Harness {
  const journal = new MarkingJournal()
  const tasks: Harness['tasks'] = []
  const cursors: number[] = []
  let now = 0
  const packer = new Packer({
    journal: journal as Journal & MarkingJournal,
    cursors: { getCursor: async () => null, putCursor: async (_journal, _consumer, position) => { cursors.push(position) } },
    pool: {
      threads,
      pack: async task => await new Promise((resolve, reject) => {
        tasks.push({ task, done: outcome => { if (outcome instanceof Error) reject(outcome); else resolve(outcome) } })
      })
    },
    clock: { nowUs: () => now++, monotonicMs: () => now++ },
    log: silentLog,
    sliceIntervalMs: 1,
    onPacked: () => {}
  }, start)
  return { journal, packer, tasks, cursors }
}

const turn = async (): Promise<void> => { await new Promise(resolve => setTimeout(resolve, 15)) }

t.test('the cursor never passes a slice that is not packed, whatever order slices finish in', async t => {
  const { journal, packer, tasks, cursors } = harness(2)
  journal.arrive(100)
  await journal.mark()
  journal.arrive(50)
  await journal.mark()
  t.equal(tasks.length, 2, 'both slices run side by side')
  tasks[1].done(emptyResult)
  await turn()
  t.equal(packer.cursor, 0)
  t.same(cursors, [])
  t.equal(packer.backlogBytes, 150)
  tasks[0].done(emptyResult)
  await turn()
  t.equal(packer.cursor, 150)
  t.same(cursors, [150])
  t.equal(packer.backlogBytes, 0)
  t.equal(packer.cursorStamp, 150)
})

t.test('a slice that fails is repeated with the same bounds until it succeeds', async t => {
  const { journal, packer, tasks } = harness(1)
  journal.arrive(100)
  await journal.mark()
  for (let attempt = 0; attempt < 3; attempt++) {
    tasks[attempt].done(new Error('the thread died'))
    await t.resolves(new Promise<void>(resolve => {
      const timer = setInterval(() => { if (tasks.length === attempt + 2) { clearInterval(timer); resolve() } }, 5)
    }))
    t.same(tasks[attempt + 1].task, tasks[0].task)
  }
  t.equal(packer.cursor, 0)
  tasks[3].done(emptyResult)
  await turn()
  t.equal(packer.cursor, 100)
  t.equal(packer.stats.retries, 3)
})

t.test('marks found at the start are packed first, in order', async t => {
  const marks = [{ from: 10, to: 20, records: 1, stamp: 1 }, { from: 30, to: 40, records: 1, stamp: 2 }]
  const { packer, tasks } = harness(1, { cursor: 10, marks })
  packer.open()
  t.same(tasks.map(({ task }) => task.mark.to), [20])
  tasks[0].done(emptyResult)
  await turn()
  t.same(tasks.map(({ task }) => task.mark.to), [20, 40])
  tasks[1].done(emptyResult)
  await turn()
  t.equal(packer.cursor, 40)
  await packer.close()
})

t.test('drain packs what has not been closed into a slice yet', async t => {
  const { journal, packer, tasks } = harness(1)
  journal.arrive(10)
  const drained = packer.drain(5000)
  await turn()
  t.equal(tasks.length, 1)
  tasks[0].done(emptyResult)
  t.equal(await drained, true)
  journal.arrive(10)
  t.equal(await packer.drain(50), false, 'it gives up at its time-out')
  tasks[1].done(emptyResult)
})

t.test('senders are slowed when packing is behind, refused when the journal cannot take more, and let go again', async t => {
  const pressure = new Pressure()
  const journal: { state: Journal['state'] } = { state: 'ok' }
  const packer = { backlogBytes: 0, bytesPerSecond: 1000 }
  const control = new PressureControl({ journal, packer, pressure, lagMsMax: 1000, backlogBytesMin: 100, intervalMs: 10 })
  const steps: [number, Journal['state'], string][] = [
    [0, 'ok', 'open'], [1001, 'ok', 'slow'], [800, 'ok', 'slow'], [699, 'ok', 'open'], [0, 'slow', 'slow'], [0, 'full', 'refuse'], [0, 'failed', 'refuse'], [0, 'ok', 'open']
  ]
  let woken = 0
  for (const [backlog, state, expected] of steps) {
    packer.backlogBytes = backlog
    journal.state = state
    control.evaluate()
    t.equal(pressure.level, expected, `backlog ${backlog}, journal ${state}`)
    if (pressure.level !== 'open') pressure.whenOpen(() => { woken++ })
  }
  t.equal(woken, 5, 'everybody who waited was woken once')
  t.equal(pressure.waiting, 0)
})

t.test('while the store is away nobody is slowed for what cannot be packed, until the journal itself is near its bound', async t => {
  const pressure = new Pressure()
  const journal: { state: Journal['state'] } = { state: 'ok' }
  const packer = { backlogBytes: 10_000, bytesPerSecond: 1000, stuck: true }
  const control = new PressureControl({ journal, packer, pressure, lagMsMax: 1000, backlogBytesMin: 100, intervalMs: 10 })
  control.evaluate()
  t.equal(pressure.level, 'open')
  journal.state = 'slow'
  control.evaluate()
  t.equal(pressure.level, 'slow')
  journal.state = 'ok'
  packer.stuck = false
  control.evaluate()
  t.equal(pressure.level, 'slow', 'what gathered is packed before more is asked for')
})

/** A packer whose store is away until it is told otherwise, on a clock that is set by hand. */
function outage (t: { teardown(undo: () => unknown): unknown }) {
  const journal = new MarkingJournal()
  const control = { nowMs: 10_000, away: true, packed: [] as number[], hot: [] as number[], hotWorks: true }
  const packer = new Packer({
    journal: journal as Journal & MarkingJournal,
    cursors: { getCursor: async () => null, putCursor: async () => {} },
    pool: {
      threads: 2,
      pack: async ({ mark }) => {
        if (control.away) throw new TwinfoldError('store_unavailable', 'Cassandra does not answer')
        control.packed.push(mark.to)
        return emptyResult
      }
    },
    clock: { nowUs: () => control.nowMs * 1000, monotonicMs: () => control.nowMs },
    log: silentLog,
    sliceIntervalMs: 1,
    onPacked: () => {}
  }, { cursor: 0, marks: [] })
  const follower = new HotFollower({
    journal: journal as Pick<Journal, 'journalId' | 'segmentsFor'>,
    packer,
    pool: { packHot: async (task: HotTask) => { control.hot.push(task.mark.to); return { put: control.hotWorks } } },
    log: silentLog,
    behindMax: 4
  })
  packer.open()
  t.teardown(async () => { await packer.close() })
  return { journal, control, packer, follower }
}

t.test('slices are closed about once a second while the store is away, and the hot state follows each once', async t => {
  const { journal, control, packer, follower } = outage(t)
  for (let second = 1; second <= 6; second++) {
    for (let i = 0; i < 4; i++) {
      journal.arrive(10)
      await turn()
    }
    control.nowMs += 1001
    await turn()
    await follower.follow()
  }
  t.equal(packer.stuck, true)
  t.ok(journal.unmarkedBytes < 80, `${journal.unmarkedBytes} bytes wait for a slice`)
  const closed = packer.unpackedAfter(0).map(mark => mark.to)
  t.ok(closed.length >= 5 && closed.length <= 8, `${closed.length} slices in 6 seconds`)
  t.same(control.hot, closed, 'each once, in order')
  await follower.follow()
  t.same(control.hot, closed)

  control.away = false
  t.equal(await packer.drain(10_000), true)
  t.equal(packer.stuck, false)
  t.equal(packer.cursor, journal.durableEnd)
  t.same([...control.packed].sort((a, b) => a - b).slice(0, closed.length), closed, 'every slice is packed when the store is back')
  const followed = control.hot.length
  journal.arrive(10)
  await journal.mark()
  await follower.follow()
  t.equal(control.hot.length, followed, 'then there is nothing to follow')
})

t.test('a hot state that fails is tried again from the same slice, and what is far behind is passed over', async t => {
  const { journal, control, packer, follower } = outage(t)
  for (let i = 0; i < 10; i++) {
    journal.arrive(10)
    await journal.mark()
  }
  await turn()
  control.hotWorks = false
  await follower.follow()
  await follower.follow()
  t.same(control.hot, [70, 70], 'four slices before the last')
  control.hotWorks = true
  await follower.follow()
  t.same(control.hot, [70, 70, 70, 80, 90, 100])
  t.equal(packer.cursor, 0)
})

t.test('a fault that is not the store\'s does not count as an outage', async t => {
  const { journal, packer, tasks } = harness(1)
  journal.arrive(10)
  await journal.mark()
  tasks[0].done(new Error('a fault of ours'))
  await turn()
  t.equal(packer.stuck, false)
})
