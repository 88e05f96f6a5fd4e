import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import type { Value } from '../../src/core/reading.js'
import { newestValues } from '../../src/pipeline/hot-newest.js'
import { HotWriter } from '../../src/pipeline/hot-writer.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { changeHotGeneration, HotGenerationLease, readHotGeneration } from '../../src/store/hot-generation.js'
import type { DeviceLatest } from '../../src/store/hot-state.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { fillTable, type SentReading } from './fill-table.js'

const journalId = '00000000000000aa'

t.test('the newest value of each metric of a slice is found, whatever order and shape its readings have', async t => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e9)
  const random = seededRandom(seed)
  const table = new SliceTable()
  for (let round = 0; round < 50; round++) {
    table.reset()
    const readings: SentReading[] = []
    const expected = new Map<string, { ts: number, value: Value }>()
    for (let i = 0; i < 40; i++) {
      const device = `d${Math.floor(random() * 3)}`
      const ts = 1e15 + Math.floor(random() * 15)
      const values = new Map<string, Value>()
      for (const metric of ['a', 'b', 'c', 'd']) {
        const kind = random()
        if (kind < 0.5) values.set(metric, kind < 0.2 ? i : kind < 0.35 ? `s${i}` : i % 2 === 0)
      }
      if (values.size === 0) continue
      readings.push({ device, ts, stamp: 1e15 + 100 + i, values: [...values] } as unknown as SentReading)
      for (const [metric, value] of values) {
        const other = expected.get(`${device} ${metric}`)
        if (other === undefined || ts >= other.ts) expected.set(`${device} ${metric}`, { ts, value })
      }
    }
    fillTable(table, 'acme', readings)
    const found = new Map(newestValues(table, journalId).flatMap(({ tenant, device, values }) => values.map(({ metric, ts, value, journalId: journal }) => [`${device} ${metric}`, { ts, value, tenant, journal }] as const)))
    t.strictSame([...found].sort(), [...expected].map(([key, { ts, value }]) => [key, { ts, value, tenant: 'acme', journal: journalId }]).sort(), `seed ${seed}`)
  }
})

function harness () {
  const control = { nowMs: 0, put: [] as string[], mode: 'works' as 'works' | 'fails' | 'hangs' | 'slow' }
  const writer = new HotWriter({
    hot: {
      putLatest: async (devices: readonly DeviceLatest[]) => {
        if (control.mode === 'fails') throw new TwinfoldError('store_unavailable', 'Redis does not answer')
        if (control.mode === 'hangs') await new Promise(() => {})
        if (control.mode === 'slow') control.nowMs += 400
        control.put.push(...devices.map(({ device }) => device))
      },
      getLatest: async () => { throw new Error('not used here') },
      fillLatest: async () => {},
      forgetDevice: async () => {}
    },
    monotonicMs: () => control.nowMs,
    putMsMax: 500,
    restMs: 5000
  })
  const devices = (count: number): DeviceLatest[] => Array.from({ length: count }, (_, i) => ({ tenant: 'acme', device: `d${i}`, values: [] }))
  return { control, writer, devices }
}

t.test('a hot state that fails, hangs or is too slow holds up a slice for half a second at most, and then rests', async t => {
  for (const mode of ['fails', 'hangs', 'slow'] as const) {
    const { control, writer, devices } = harness()
    control.mode = mode
    const start = performance.now()
    t.equal(await writer.put(devices(2000)), false, mode)
    t.ok(performance.now() - start < 900, `${mode}: ${performance.now() - start} ms`)
    control.mode = 'works'
    const before = control.put.length
    t.equal(await writer.put(devices(3)), false, 'it rests')
    t.equal(control.put.length, before)
    control.nowMs += 5001
    t.equal(await writer.put(devices(3)), true)
    t.equal(control.put.length, before + 3)
  }
})

function settingsOf () {
  const values = new Map<string, string>()
  const control = { hidden: 0, reads: 0, puts: 0 }
  return {
    control,
    values,
    settings: {
      getSetting: async (name: string) => { control.reads++; return values.get(name) ?? null },
      // A write may be hidden behind one of a node whose clock is ahead.
      putSetting: async (name: string, value: string) => { control.puts++; if (control.hidden-- <= 0) values.set(name, value) }
    }
  }
}

t.test('a change of the generation is in force when it returns, even where clocks of other nodes are ahead', async t => {
  const { settings, control } = settingsOf()
  let count = 0
  const before = await readHotGeneration(settings)
  control.hidden = 3
  await changeHotGeneration(settings, () => `g${++count}`)
  t.not(await readHotGeneration(settings), before)
  t.equal(control.puts, 4)
  control.hidden = Infinity
  await t.rejects(changeHotGeneration(settings, () => `g${++count}`), { code: 'store_unavailable' }, 'then the slice is packed again')
})

t.test('a reader sees another generation after its lease at the latest', async t => {
  const { settings, control } = settingsOf()
  let nowMs = 0
  const lease = new HotGenerationLease(settings, { leaseMs: 200, monotonicMs: () => nowMs })
  const first = await lease.read()
  await settings.putSetting('hot-generation', 'x')
  nowMs = 199
  t.equal(await lease.read(), first)
  t.equal(control.reads, 1)
  nowMs = 200
  t.equal(await lease.read(), 'x')
})
