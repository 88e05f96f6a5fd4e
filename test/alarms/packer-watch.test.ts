import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openJournal } from '../../src/journal/journal.js'
import { encodeIdentity, RecordKind, type SliceMark } from '../../src/journal/record.js'
import { AlarmTap } from '../../src/alarms/alarm-tap.js'
import { RuleService } from '../../src/alarms/rule-service.js'
import { ModelService } from '../../src/models/model-service.js'
import { ViolationLog } from '../../src/models/violation-log.js'
import { PackPool } from '../../src/pipeline/pack-pool.js'
import { openStore } from '../../src/store/open-store.js'
import type { HotTask, PackResult, PackTask } from '../../workers/protocol.js'

t.test('packers tell edges in order of event time and violations by metric, from the rules and models in the store', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-watch-'))
  const spec = { kind: 'embedded' as const, directory: join(directory, 'store') }
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  const journal = await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 30 })
  const createdAt = systemClock.nowUs()
  for (const id of ['acme', 'calm']) await store.createTenant({ id, name: '', createdAt, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
  for (const [id, type, site] of [['p1', 'pump', 'berlin'], ['p2', 'pump', 'paris'], ['f1', 'fan', 'berlin']]) await store.createDevice({ tenant: 'acme', id, type, name: '', gateway: false, gatewayId: null, createdAt, tags: { site } })
  await store.createDevice({ tenant: 'calm', id: 'p1', type: 'pump', name: '', gateway: false, gatewayId: null, createdAt })
  const rules = new RuleService({ documents: store, clock: systemClock })
  const condition = { op: 'gt' as const, value: 80, clear: { value: 70 } }
  await rules.put('acme', 'all', { source: { metric: 't' }, condition }, null)
  await rules.put('acme', 'tag', { source: { metric: 't' }, condition, scope: { tag: 'site=paris' } }, null)
  await rules.put('acme', 'fans', { source: { metric: 't' }, condition, scope: { model: 'fan' } }, null)
  await rules.put('acme', 'off', { source: { metric: 't' }, condition, enabled: false }, null)
  await rules.put('acme', 'silent', { source: { metric: '*' }, noData: { seconds: 60 } }, null)
  const violations = new ViolationLog({ clock: systemClock })
  const models = new ModelService({ documents: store, violations, clock: systemClock, changed: () => {} })
  await models.put('acme', 'pump', { metrics: { t: { type: 'number', min: 0, max: 100 }, on: { type: 'boolean' } }, onUnknownMetric: 'flag' }, null, 'me')

  const append = (tenant: string, device: string, body: unknown): void => {
    journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity: encodeIdentity({ tenant, device, idempotencyKey: '', fingerprint: '' }), body: Buffer.from(JSON.stringify(body)), messages: 1 }, null, 0)
  }
  const ms = Math.floor(createdAt / 1000)
  // Out of order, and one time given twice: the value accepted last counts.
  append('acme', 'p1', [[5, 75], [1, 20], [2, 90], [3, 95], [4, 75], [6, 60], [7, 120], [7, 50], [8, 30]].map(([at, value]) => ({ ts: ms + at, values: { t: value } })))
  append('acme', 'p2', [{ ts: ms + 1, values: { t: 101, on: 'yes', extra: 1 } }, { ts: ms + 2, values: { t: -1, on: true, extra: 2 } }])
  append('acme', 'f1', { ts: ms + 1, values: { q: 1, on: 'yes' } })
  append('calm', 'p1', { ts: ms + 1, values: { t: 1000 } })
  const mark = await journal.mark() as SliceMark
  const pool = new PackPool({ store: spec, threads: 1, leaseMs: 10_000 })
  const { watch } = await pool.pack({ kind: 'pack', journalId: journal.journalId, mark, segments: journal.segmentsFor(mark.from, mark.to) })
  const edges = watch?.edges.flatMap(({ rule, devices, starts, ts, sides, values }) => devices.map((device, at) =>
    `${rule.id} ${device} ${ts.slice(starts[at], starts[at + 1]).map((time, i) => `${time / 1000 - ms}:${sides[starts[at] + i]}:${String(values[starts[at] + i])}`).join(' ')}`))
  t.same(edges?.sort(), ['all p1 1:0:20 2:2:90 4:1:75 6:0:60 8:0:30', 'all p2 1:2:101 2:0:-1', 'silent f1 ', 'silent p1 ', 'silent p2 ', 'tag p2 1:2:101 2:0:-1'])
  t.same(watch?.violations.map(({ metric, kind, count, device, value }) => `${metric} ${kind} ${count} ${device} ${String(value)}`).sort(),
    ['extra unknown 2 p2 2', 'on type 1 p2 yes', 't range 3 p2 -1'])
  violations.noteAll(watch?.violations ?? [])
  t.match((await models.violations('acme', 'pump'))?.counts[0], { metric: 't', kind: 'range', total: 3, examples: [{ device: 'p2', value: -1 }] })
  await pool.close()
  await journal.close()
  await store.close()
  rmSync(directory, { recursive: true, force: true })
})

t.test('a slice is packed only when its edges are taken, and slices are taken in the order of the journal', async t => {
  const taken: number[] = []
  let failures = 1
  const tap = new AlarmTap({
    clock: systemClock,
    violations: () => {},
    take: async (_edges, stampUs) => {
      if (failures-- > 0) throw new Error('the store is away')
      taken.push(stampUs)
    }
  })
  const waiting = new Map<number, () => void>()
  const rule = { stamp: 1 } as never
  const pool = tap.on({
    threads: 2,
    packHot: async (_task: HotTask) => ({ put: true }),
    pack: async (task: PackTask) => {
      await new Promise<void>(resolve => { waiting.set(task.mark.to, resolve) })
      return { watch: { violations: [], edges: [{ tenant: 'a', rule, devices: [], starts: [0], ts: [], sides: [], values: [] }], edgesDropped: 0 } } as unknown as PackResult
    }
  })
  const pack = async (to: number): Promise<PackResult> => await pool.pack({ kind: 'pack', journalId: '', segments: [], mark: { from: to - 1, to, stamp: to * 100 } as SliceMark })
  const first = pack(1).catch(() => 'failed')
  const second = pack(2)
  waiting.get(2)?.()
  waiting.get(1)?.()
  t.equal(await first, 'failed', 'the slice is given back to the packer')
  t.same(taken, [])
  t.ok(tap.evaluatedTo() < 100, 'nothing is judged beyond what was evaluated')
  const again = pack(1)
  waiting.get(1)?.()
  await Promise.all([again, second])
  t.same(taken, [100, 200])
  t.ok(tap.evaluatedTo() > 1e15)
})
