/**
 * What keeping the outbox of analytics costs a packer: the same slices of a real journal are packed into a new embedded store with the
 * outbox on and off, in turns. Prints CPU of the process (main thread and LevelDB's; nothing else runs) and time per slice, for
 * few devices with chunks of their own and for many that share slabs.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/core/clock.js'
import { silentLog } from '../src/core/log.js'
import { openJournal } from '../src/journal/journal.js'
import { encodeIdentity, RecordKind, type SliceMark } from '../src/journal/record.js'
import { SlicePacker } from '../src/pipeline/pack-slice.js'
import { planLookup } from '../src/pipeline/task-lookup.js'
import { openStore } from '../src/store/open-store.js'
import type { PackTask } from '../workers/protocol.js'

const metrics = 10
const rounds = 7

async function run (name: string, devices: number, messagesPerSlice: number, slices: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-bench-'))
  const journal = await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 32 })
  const tasks: PackTask[] = []
  let n = 0
  for (let slice = 0; slice < slices; slice++) {
    for (let i = 0; i < messagesPerSlice; i++, n++) {
      const values = Array.from({ length: metrics }, (_, m) => `"m${m}":${(20 + m + Math.sin(n / 50 + m)).toFixed(2)}`).join()
      journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity: encodeIdentity({ tenant: 'acme', device: `device-${n % devices}`, idempotencyKey: '', fingerprint: '' }), body: Buffer.from(`{${values}}`), messages: 1 }, null, 0)
    }
    const mark = await journal.mark() as SliceMark
    tasks.push({ kind: 'pack', journalId: journal.journalId, mark, segments: journal.segmentsFor(mark.from, mark.to) })
  }
  const flag = new SharedArrayBuffer(1)
  const cpu: Record<'on' | 'off', number[]> = { on: [], off: [] }
  const wall: Record<'on' | 'off', number[]> = { on: [], off: [] }
  for (let round = 0; round < 2 * rounds; round++) {
    const which = round % 2 === 0 ? 'off' : 'on'
    new Uint8Array(flag)[0] = which === 'on' ? 1 : 0
    const own = join(directory, `store-${round}`)
    const store = await openStore({ kind: 'embedded', directory: own, outbox: flag }, { clock: systemClock, log: silentLog, writer: true })
    await store.createTenant({ id: 'acme', name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
    for (let i = 0; i < devices; i++) await store.createDevice({ tenant: 'acme', id: `device-${i}`, type: '', name: '', gateway: false, gatewayId: null, createdAt: 0 })
    const packer = new SlicePacker({ store, plans: planLookup(store, { leaseMs: 60_000, rememberedMax: 200_000 }), leaseMs: 60_000, monotonicMs: systemClock.monotonicMs })
    // What is looked up and made once.
    await packer.pack(tasks[0])
    const before = process.cpuUsage()
    const startMs = performance.now()
    for (const task of tasks.slice(1)) await packer.pack(task)
    const used = process.cpuUsage(before)
    if (round >= 2) {
      cpu[which].push((used.user + used.system) / 1000 / (slices - 1))
      wall[which].push((performance.now() - startMs) / (slices - 1))
    }
    await store.close()
    rmSync(own, { recursive: true, force: true })
  }
  await journal.close()
  rmSync(directory, { recursive: true, force: true })
  const middle = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
  const [off, on] = [middle(cpu.off), middle(cpu.on)]
  const least = [Math.min(...cpu.off), Math.min(...cpu.on)]
  process.stdout.write(`${name}: CPU a slice ${off.toFixed(2)} ms off, ${on.toFixed(2)} ms on (${((on / off - 1) * 100).toFixed(1)} %; least ${least[0].toFixed(2)} and ${least[1].toFixed(2)}, ${((least[1] / least[0] - 1) * 100).toFixed(1)} %); time ${middle(wall.off).toFixed(2)} and ${middle(wall.on).toFixed(2)} ms\n`)
}

await run('dense, 50 devices, 2,000 messages a slice', 50, 2000, 30)
await run('dense, 250 devices, 2,500 messages a slice', 250, 2500, 30)
await run('sparse, 5,000 devices, 2,500 messages a slice', 5000, 2500, 20)
await run('trickle, 50 devices, 50 messages a slice', 50, 50, 150)
