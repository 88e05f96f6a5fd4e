import t from 'tap'
import { silentLog } from '../../src/core/log.js'
import { SlabMerger } from '../../src/pipeline/slab-merger.js'
import type { MergeResult, MergeTask } from '../../workers/protocol.js'

t.test('merging goes on until nothing is left, pauses while packing is behind, and passes only what is packed', async t => {
  const tasks: MergeTask[] = []
  let slabsLeft = 25
  let busy = true
  let now = 0
  const merger = new SlabMerger({
    journalId: 'aa',
    pool: {
      merge: async (task): Promise<MergeResult> => {
        t.notOk(busy, 'no task while packing is behind')
        tasks.push(task)
        const slabs = Math.min(task.slabsMax, slabsLeft)
        slabsLeft -= slabs
        return { slabs, chunkRows: 1, readings: slabs, cpuMs: 1 }
      }
    },
    busy: () => busy,
    clock: { nowUs: () => now * 1000, monotonicMs: () => now },
    log: silentLog,
    afterMs: 100,
    intervalMs: 10,
    slabsPerTaskMax: 10
  })
  merger.notePacked(500)
  merger.open()
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(tasks.length, 0, 'too young')
  now = 200
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(tasks.length, 0, 'packing is behind')
  busy = false
  while (slabsLeft > 0) await new Promise(resolve => setTimeout(resolve, 10))
  await merger.close()
  t.equal(merger.stats.slabs, 25)
  t.ok(tasks.filter(task => task.late === undefined).every(task => task.before === 501 && task.slabsMax === 10))
})
