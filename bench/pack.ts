/**
 * What packing costs without a store: journal records of ready-made publishes are decoded, grouped and encoded, as a packer
 * thread does it. Prints microseconds per message and bytes per point, for few devices with chunks of their own and for many that
 * share slabs.
 */
import { RecordKind } from '../src/journal/record.js'
import { BodyDecoder } from '../src/pipeline/decode/body.js'
import { groupSlice, orderByDevice } from '../src/pipeline/group.js'
import { SeenCache } from '../src/pipeline/seen-cache.js'
import { SliceTable } from '../src/pipeline/slice-table.js'
import { defaultPlan } from '../src/series/partition-plan.js'

const messages = 30_000
const metrics = 10

function makeBodies (): Buffer[] {
  let seed = 42
  const random = (): number => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return seed / 2 ** 32 }
  const values = Array.from({ length: metrics }, (_, i) => 20 + i)
  return Array.from({ length: messages }, () => {
    const parts: string[] = []
    for (let i = 0; i < metrics; i++) {
      values[i] += (random() - 0.5) * 0.2
      parts.push(`"m${i}":${values[i].toFixed(2)}`)
    }
    return Buffer.from(`{${parts.join(',')}}`)
  })
}

function run (devices: number, rounds: number): void {
  const bodies = makeBodies()
  const all = Buffer.concat(bodies)
  const table = new SliceTable()
  const decoder = new BodyDecoder(table)
  const seen = new SeenCache({ devicesMax: 200_000 })
  const names = Array.from({ length: devices }, (_, i) => `device-${i}`)
  const stamp0 = Date.now() * 1000
  for (let round = 0; round < rounds; round++) {
    table.reset()
    const context = {
      table, tenant: 't', device: '', deviceNumber: -1, multiDevice: false, stamp: 0, oldestTs: 0, newestTs: Infinity, lastUnstamped: new Map<number, number>(),
      refuse: (reason: string, detail: string) => { throw new Error(`${reason}: ${detail}`) }, deviceAllowed: () => true
    }
    const t0 = performance.now()
    let at = 0
    for (let i = 0; i < bodies.length; i++) {
      // Runs of 20 messages of one device, as a connection with 20 in flight delivers them.
      const device = names[(devices >= 1000 ? i : Math.floor(i / 20)) % devices]
      if (context.device !== device) { context.device = device; context.deviceNumber = table.deviceNumber('t', device) }
      context.stamp = stamp0 + round * 1e6 + i
      decoder.decode(RecordKind.bodyAuto, all, at, at + bodies[i].length, context)
      at += bodies[i].length
    }
    const t1 = performance.now()
    const { order, starts } = orderByDevice(table)
    const grouped = groupSlice(table, order, starts, { slice: { journalId: '0', mark: round }, stamp: stamp0, planOf: () => defaultPlan, retentionDaysOf: () => 365, seen })
    const t2 = performance.now()
    if (round >= rounds - 2) {
      process.stdout.write(`${devices} devices: decode ${((t1 - t0) / messages * 1000).toFixed(2)} µs, group and encode ${((t2 - t1) / messages * 1000).toFixed(2)} µs a message; ${(grouped.bytesOut / messages / metrics).toFixed(2)} bytes a point; ${grouped.chunks.length} chunks, ${grouped.slabs.length} slabs\n`)
    }
  }
}

run(50, 12)
run(2000, 12)
run(100_000, 12)
