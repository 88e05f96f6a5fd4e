import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { shardOf } from '../../src/core/ids.js'
import { silentLog } from '../../src/core/log.js'
import { usPerMinute } from '../../src/core/reading.js'
import { openJournal } from '../../src/journal/journal.js'
import { encodeIdentity, RecordFlags, RecordKind, type SliceMark } from '../../src/journal/record.js'
import { PackPool } from '../../src/pipeline/pack-pool.js'
import { SlicePacker } from '../../src/pipeline/pack-slice.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { defaultPlan, bucketsIn } from '../../src/series/partition-plan.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { PackTask } from '../../workers/protocol.js'

const devices = ['busy', 'calm-1', 'calm-2']

/** Every row of the store that belongs to the tenant, as text. */
async function rowsOf (store: Store, aroundTs: number): Promise<string[]> {
  const rows: string[] = []
  const retentionDays = [365]
  for (const device of devices) {
    for (const bucket of bucketsIn(defaultPlan, aroundTs - 3600e6, aroundTs + 3600e6)) {
      for await (const row of store.raw.scanChunks({ tenant: 'acme', device, retentionDays, bucket, salts: 1 }, 0, Number.MAX_SAFE_INTEGER)) {
        rows.push(`chunk ${device} ${row.slice.mark} ${row.part} ${row.minTs} ${row.maxTs} ${Buffer.from(row.bytes).toString('hex')}`)
      }
    }
    const minute = Math.floor(aroundTs / usPerMinute) * usPerMinute
    for await (const slab of store.raw.scanSlabs('acme', shardOf(device), retentionDays, minute - 60 * usPerMinute, minute + 60 * usPerMinute)) {
      rows.push(`slab ${device} ${slab.minute} ${slab.slice.mark} ${Buffer.from(slab.bytes).toString('hex')}`)
    }
    for await (const seen of store.raw.scanSeen({ tenant: 'acme', device, retentionDays })) rows.push(`seen ${device} ${seen.day} ${seen.metrics.join()}`)
  }
  for (const letter of (await store.listDeadLetters('acme', {}, null, 100)).items) rows.push(`letter ${letter.id} ${letter.reason} ${Buffer.from(letter.payload).toString()}`)
  return rows.sort()
}

/** The store with a registry that takes its time, as one behind a network does. */
function slowRegistry (store: Store): Store {
  return new Proxy(store, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name)
      if (name === 'getDevice' || name === 'getPlan') {
        return async (tenant: string, device: string) => {
          await new Promise(resolve => setTimeout(resolve, 3))
          return await target[name](tenant, device)
        }
      }
      return typeof member === 'function' ? member.bind(target) as unknown : member
    }
  })
}

t.test('a slice whose thread dies is packed again onto the same rows, by whichever thread and however often', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-pack-'))
  const spec = { kind: 'embedded' as const, directory: join(directory, 'store') }
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  const journal = await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 30 })
  const createdAt = systemClock.nowUs()
  t.ok(await store.createTenant({ id: 'acme', name: '', createdAt, retention: [{ sinceStamp: 0, days: 365 }], disabled: false }))
  for (const id of devices) t.ok(await store.createDevice({ tenant: 'acme', id, type: '', name: '', gateway: false, gatewayId: null, createdAt }))

  const append = (device: string, kind: RecordKind, flags: number, body: string): void => {
    journal.append({ kind, flags, identity: encodeIdentity({ tenant: 'acme', device, idempotencyKey: '', fingerprint: '' }), body: Buffer.from(body), messages: 1 }, null, 0)
  }
  for (let i = 0; i < 3000; i++) append('busy', RecordKind.bodyAuto, 0, `{"t":${20 + i / 100},"on":${i % 2 === 0},"mode":"m${i % 3}"}`)
  append('calm-1', RecordKind.bodyAuto, 0, '[{"t":1},{"t":2},{"t":[]},{"t":3}]')
  append('calm-2', RecordKind.bodyNdjson, 0, '{"p":1}\n{"p":\n{"p":2}\n')
  append('', RecordKind.bodyAuto, RecordFlags.multiDevice, '[{"device":"calm-1","t":4},{"device":"nobody","t":5},[{"device":"calm-2","t":6}],{"device":"calm-2","q":6}]')
  // Looking these up takes longer than a lease of a millisecond; what follows them must still find its tenant.
  append('', RecordKind.bodyAuto, RecordFlags.multiDevice, JSON.stringify(Array.from({ length: 20 }, (_, i) => ({ device: `stranger-${i}`, t: i }))))
  append('calm-2', RecordKind.bodyAuto, 0, '{"p":7}')
  const mark = await journal.mark() as SliceMark
  const task: PackTask = { kind: 'pack', journalId: journal.journalId, mark, segments: journal.segmentsFor(mark.from, mark.to) }

  const options = { store: spec, threads: 1, leaseMs: 10_000 }
  const dying = new PackPool(options)
  const doomed = dying.pack(task).then(() => 'finished', () => 'died')
  await dying.destroy()
  t.equal(await doomed, 'died')

  const pool = new PackPool(options)
  const first = await pool.pack(task)
  t.equal(first.records, 3005)
  t.equal(first.readings, 3000 + 3 + 2 + 2 + 1)
  const rows = await rowsOf(store, mark.stamp)
  t.ok(rows.some(row => row.startsWith('chunk busy')) && rows.some(row => row.startsWith('slab calm-1')) && rows.some(row => row.startsWith('letter')))

  const second = new PackPool(options)
  const [again, beside] = await Promise.all([pool.pack(task), second.pack(task)])
  t.same({ ...again, cpuMs: 0 }, { ...first, cpuMs: 0 })
  t.same({ ...beside, cpuMs: 0 }, { ...first, cpuMs: 0 })
  t.same(await rowsOf(store, mark.stamp), rows, 'the same rows, byte for byte')

  // Leases that end in the middle of a slice: what was looked up for a slice holds for all of it (INVARIANTS 1).
  const slow = slowRegistry(store)
  const forgetful = new SlicePacker({ store: slow, plans: planLookup(slow, { leaseMs: 1, rememberedMax: 100 }), leaseMs: 1, monotonicMs: systemClock.monotonicMs })
  t.same({ ...await forgetful.pack(task), cpuMs: 0 }, { ...first, cpuMs: 0 })
  t.same(await rowsOf(store, mark.stamp), rows, 'the same rows with the shortest leases')

  await pool.close()
  await second.close()
  await journal.close()
  await store.close()
  rmSync(directory, { recursive: true, force: true })
})
